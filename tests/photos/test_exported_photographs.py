"""An exported model on real photographs, from their files: the same answers as the predictor's."""

from pathlib import Path

import numpy as np
import pytest

from mpfgvc import MPFGVC, Predictor, export, load_config
from mpfgvc.inference.answering import softmax
from mpfgvc.inference.forward import preprocessing_of
from mpfgvc.inference.saved_model import SavedModel, load_model, save_model

for package in ("onnx", "onnxruntime", "onnxscript"):
    pytest.importorskip(package)
SETTINGS = {
    "model.image_tower.name": "vit_tiny_patch16_224",
    "model.text_tower.name": "mpfgvc-small",
    "model.text_tower.pretrained": None,
    "model.kept_tokens": 49,
}
PHOTOGRAPHS = 50


@pytest.fixture(scope="module")
def model(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ViT-tiny of ImageNet with new classifiers: a model folder."""
    weights = shared / "weights" / "vit_tiny_patch16_224.safetensors"
    if not weights.is_file():
        pytest.skip(f"needs {weights}")
    config = load_config(overrides=SETTINGS | {"model.image_tower.weights": str(weights)})
    network = MPFGVC.from_config(config.model, [f"bird {number}" for number in range(27)])
    preprocessing = preprocessing_of(network.image_encoder.tower.input, config.data)
    folder = tmp_path_factory.mktemp("model") / "model"
    save_model(SavedModel(network=network, preprocessing=preprocessing, config=config.model), folder)
    return folder


@pytest.mark.slow("a ViT-tiny on 50 photographs")
@pytest.mark.timeout(900)
def test_every_photograph_has_the_same_best_guess_by_each_source(model: Path, cub_subset: Path, tmp_path: Path) -> None:
    images = cub_subset / "images"
    done = export(model, tmp_path / "birds.onnx", photos=images, most=5)
    assert done.parity.agreement == 1.0
    paths = sorted(images.rglob("*.jpg"))
    files = [paths[place] for place in np.random.default_rng(0).permutation(len(paths))[:PHOTOGRAPHS]]
    predictor, runtime = Predictor.of(load_model(model)), Predictor.from_pretrained(done.path)
    expected, found = (
        each.backend.run(np.stack([each.prepare(each.open(file)) for file in files]), list(map(str, files)))
        for each in (predictor, runtime)
    )
    for source in ("vision", "text", "fusion"):
        before = softmax(getattr(expected, source))
        after = softmax(getattr(found, source))
        np.testing.assert_allclose(after, before, atol=1e-3)
        np.testing.assert_array_equal(after.argmax(axis=1), before.argmax(axis=1))
    np.testing.assert_array_equal(np.sort(found.kept), np.sort(expected.kept))
    streamed = list(runtime.predict_files(files[:7], top=1, batch_size=3))
    assert [list(each.guesses) for each in streamed] == runtime(files[:7], top=1)
