"""A saved model and its Predictor, without a training: what is loaded, refused, answered and streamed."""

import copy
import json
import pickle
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from mpfgvc import MPFGVC, Config, DataError, Predictor
from mpfgvc.data.preprocessing import Preprocessing
from mpfgvc.errors import CheckpointError, ConfigError
from mpfgvc.inference.explain import explain
from mpfgvc.inference.saved_model import SavedModel, load_model, save_model

CLASSES = ["cross", "disc", "stripe", "ring"]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def saved(tiny: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder of random weights."""
    config = tiny().model
    network = MPFGVC.from_config(config, CLASSES, seed=3).eval()
    preprocessing = Preprocessing(image_size=(48, 48), mean=(0.4, 0.5, 0.6), std=(0.1, 0.1, 0.1))
    folder = tmp_path_factory.mktemp("saved") / "model"
    save_model(SavedModel(network=network, preprocessing=preprocessing, config=config), folder)
    return folder


@pytest.fixture(scope="module")
def predictor(saved: Path) -> Predictor:
    return Predictor.from_pretrained(saved, device="cpu")


@pytest.fixture
def model(saved: Path, tmp_path: Path) -> Path:
    """A copy of the model folder without digests, to be damaged."""
    folder = tmp_path / "damaged"
    shutil.copytree(saved, folder)
    for digest in folder.glob("digests.json"):
        digest.unlink()
    return folder


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (60, 70, 3), dtype=np.uint8)


def _refusal(folder: Path) -> str:
    with pytest.raises(CheckpointError) as refusal:
        load_model(folder)
    line = str(refusal.value)
    assert "\n" not in line
    assert len(line) < 600
    return line


def _describe(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    file = folder / "model.json"
    document = json.loads(file.read_text())
    change(document)
    file.write_text(json.dumps(document))


# What is loaded


def test_a_model_is_loaded_without_network_text_tower_or_tokenizer(
    saved: Path, image: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a saved model needs no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr("mpfgvc.model.network.build_text_tower", refuse)
    assert len(Predictor.from_pretrained(saved, device="cpu")(image)) == 4


def test_a_tower_of_the_hub_is_saved_by_its_architecture_so_the_hub_is_not_needed_again(
    tiny: Callable[..., Config], tmp_path: Path
) -> None:
    hub = tmp_path / "hub"
    hub.mkdir()
    (hub / "config.json").write_text(json.dumps({"architecture": "test_vit", "pretrained_cfg": {}}))
    config = tiny({"model.image_tower.name": f"local-dir:{hub}"}).model
    preprocessing = Preprocessing(image_size=(48, 48), mean=(0.4, 0.5, 0.6), std=(0.1, 0.1, 0.1))
    network = MPFGVC.from_config(config, CLASSES)
    save_model(SavedModel(network=network, preprocessing=preprocessing, config=config), tmp_path / "model")
    shutil.rmtree(hub)
    assert load_model(tmp_path / "model").config.image_tower.name == "test_vit"


def test_a_model_without_digests_is_loaded(model: Path, predictor: Predictor, image: np.ndarray) -> None:
    assert Predictor.from_pretrained(model, device="cpu")(image) == predictor(image)


@pytest.mark.parametrize("name", ["model.safetensors", "model.json"])
@pytest.mark.parametrize("place", [0.1, 0.999])
def test_one_flipped_bit_is_noticed(saved: Path, tmp_path: Path, name: str, place: float) -> None:
    folder = tmp_path / "model"
    shutil.copytree(saved, folder)
    content = bytearray((folder / name).read_bytes())
    content[int(place * len(content))] ^= 0x40
    (folder / name).write_bytes(content)
    line = _refusal(folder)
    assert f"{folder / name} is damaged" in line
    assert "digests.json" in line


# What is refused before anything is built


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda d: d["model"]["image_tower"].update(image_size=20_000), "image_size must be at most 4096"),
        (lambda d: d["model"]["image_tower"].update(image_size=4096), "preprocessing.image_size must be the"),
        (lambda d: d["model"]["image_tower"].update(image_size=96), "the tower's [96, 96], got [48, 48]"),
        (lambda d: d["preprocessing"].update(image_size=[48, 96]), "the tower's [48, 48], got [48, 96]"),
        (lambda d: d["model"]["image_tower"].update(name="vit_giant_patch14_224"), "model.json"),
        (lambda d: d["model"]["image_tower"].update(name="test_vit2"), "it has no class token"),
        (lambda d: d["model"]["image_tower"].update(name="resnet18"), "resnet18"),
        (lambda d: d["model"]["image_tower"].update(name="no_such_tower"), "must be a timm model"),
        (lambda d: d["model"]["image_tower"].update(name="hf-hub:user/name"), "plain name of a timm model"),
        (lambda d: d["model"].update(kept_tokens=10), "model.kept_tokens must be at most 9"),
        (lambda d: d["classes"].append("more"), "tensor classifier.bias must be F32 [5], got F32 [4]"),
        (lambda d: d.update(embed=65_536), "must be F32 [64, 65536], got F32 [64, 192]"),
    ],
)
def test_a_description_that_does_not_fit_is_refused_before_a_network_is_built(
    model: Path, change: Callable[[dict[str, Any]], object], part: str
) -> None:
    _describe(model, change)
    assert part in _refusal(model)


def test_weights_of_other_names_shapes_or_types_are_refused(model: Path) -> None:
    file = model / "model.safetensors"
    tensors = load_file(file)
    for name, other, part in (
        ("classifier.bias", torch.zeros(7), "must be F32 [4], got F32 [7]"),
        ("classifier.bias", torch.zeros(4, dtype=torch.int32), "must be F32 [4], got I32 [4]"),
        ("extra", torch.zeros(2), "tensor extra must be absent, got F32 [2]"),
    ):
        save_file(tensors | {name: other}, file)
        assert part in _refusal(model)


@pytest.mark.parametrize("content", [b"", b"cut", b"\xff" * 64, (2**60).to_bytes(8, "little") + b"{}"])
def test_a_weights_file_that_is_none_is_refused(model: Path, content: bytes) -> None:
    (model / "model.safetensors").write_bytes(content)
    assert "model.safetensors" in _refusal(model)
    (model / "model.safetensors").unlink()
    assert "model.safetensors is missing" in _refusal(model)


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_weights_that_are_not_finite_are_refused_by_tensor(model: Path, value: float) -> None:
    tensors = load_file(model / "model.safetensors")
    tensors["fusion.key.weight"][3, 5] = value
    save_file(tensors, model / "model.safetensors")
    assert "tensor fusion.key.weight holds NaN or infinity" in _refusal(model)


# What is answered


def test_finite_weights_whose_output_is_not_are_refused_by_photograph_and_model(
    model: Path, tmp_path: Path, image: np.ndarray
) -> None:
    """As a flipped exponent bit makes them."""
    tensors = load_file(model / "model.safetensors")
    tensors["classifier.weight"].copy_(3e38 * tensors["classifier.weight"].sign())
    save_file(tensors, model / "model.safetensors")
    bird = tmp_path / "bird.png"
    Image.fromarray(image).save(bird)
    predictor = Predictor.from_pretrained(model, device="cpu")
    line = rf"^{model}: its output for {bird} is not finite; its weights are damaged"
    for ask in (
        lambda: predictor(bird),
        lambda: list(predictor.predict_files([bird])),
        lambda: explain(predictor, bird),
    ):
        with pytest.raises(CheckpointError, match=line):
            ask()
    with pytest.raises(CheckpointError, match="its output for image 0 is not finite"):
        predictor([image, image])


def test_a_copy_and_a_pickle_guess_the_same(predictor: Predictor, image: np.ndarray) -> None:
    for other in (copy.deepcopy(predictor), pickle.loads(pickle.dumps(predictor))):  # noqa: S301
        assert other(image) == predictor(image)
        assert other.backend.network is not predictor.backend.network  # type: ignore[attr-defined]


def test_images_of_every_kind_get_the_same_guesses(predictor: Predictor, image: np.ndarray, tmp_path: Path) -> None:
    file = tmp_path / "bird.png"
    Image.fromarray(image).save(file)
    expected = predictor(image)
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    for source in (file, str(file), Image.fromarray(image), tensor, tensor / 255):
        assert predictor(source) == expected
    for several in ([image], iter([image]), tensor[None], image[None]):
        assert predictor(several) == [expected]
    for nothing in ([], iter([]), torch.zeros(0, 3, 8, 8)):
        assert predictor(nothing) == []
    assert list(predictor.predict_files(iter(()))) == []


@pytest.mark.parametrize("top", [0, 1.5, True, "3"])
def test_a_top_that_is_no_positive_whole_number_is_refused_before_work(predictor: Predictor, top: Any) -> None:
    for ask in (
        lambda: predictor("no such file", top=top),
        lambda: predictor([], top=top),
        lambda: predictor.predict_files([Path("x")], top=top),
        lambda: explain(predictor, "no such file", top=top),
    ):
        with pytest.raises(ConfigError, match="top must be a whole number of at least 1, got"):
            ask()


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"source": "x"}, "source must be one of fusion, vision, text, got 'x'"),
        ({"precision": "fp16"}, "precision must be one of fp32, bf16, got 'fp16'"),
        ({"device": "tpu"}, r"device must be one that is present \(.*cpu.*\) or auto, got tpu"),
        ({"device": None}, "device must be one that is present"),
        ({"device": "cuda:99"}, "device must be one that is present"),
    ],
)
def test_unknown_options_are_refused_before_the_model_is_read(options: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError, match=line):
        Predictor.from_pretrained("no such model", **options)


def test_fp32_is_the_precision_unless_bf16_is_chosen(saved: Path, image: np.ndarray) -> None:
    plain = Predictor.from_pretrained(saved)
    half = Predictor.from_pretrained(saved, device="cpu", precision="bf16")
    assert (plain.backend.how, half.backend.how) == ("fp32", "bf16")
    by_label = [{guess.label: guess.probability for guess in each(image)} for each in (plain, half)]
    assert by_label[0] == pytest.approx(by_label[1], abs=0.02)
    assert by_label[0] != by_label[1]


# Streams


@pytest.fixture
def files(photos: Path, tmp_path: Path) -> list[Path]:
    """Fifteen photographs, a broken one after the second and a missing one at the end."""
    found = sorted(photos.glob("test/*/*.png"))
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no image")
    return [*found[:2], broken, *found[2:], tmp_path / "missing.jpg"]


@pytest.mark.parametrize("workers", [0, 1])
def test_files_are_predicted_in_their_order_with_the_reason_of_each_failure(
    predictor: Predictor, files: list[Path], workers: int
) -> None:
    results = list(predictor.predict_files(files, top=2, batch_size=4, workers=workers))
    assert [result.path for result in results] == files
    failures = {result.path.name: result.failure for result in results if not result.guesses}
    assert set(failures) == {"broken.jpg", "missing.jpg"}
    assert "it is not an image of a known format" in failures["broken.jpg"]
    assert "it does not exist" in failures["missing.jpg"]
    for result in results:
        assert (len(result.guesses), result.failure == "") in ((2, True), (0, False))
    first = predictor(files[0], top=2)
    assert [guess.label for guess in results[0].guesses] == [guess.label for guess in first]


def test_any_iterable_of_paths_is_streamed_a_part_at_a_time(predictor: Predictor, files: list[Path]) -> None:
    taken: list[Path] = []

    def endless() -> Iterator[Path]:
        while True:
            for path in files:
                taken.append(path)
                yield path

    results = predictor.predict_files(endless(), batch_size=2)
    assert not taken, "nothing is read before the first result is asked for"
    assert [result.path for result in islice(results, 12)] == files[:12]
    assert len(taken) == 12
    assert next(results).path == files[12], "the stream goes on where the consumer stopped"
    results.close()  # type: ignore[attr-defined]


def test_a_consumer_that_stops_early_leaves_no_thread_behind(predictor: Predictor, files: list[Path]) -> None:
    before = threading.active_count()
    results = predictor.predict_files(files, batch_size=2, workers=2)
    next(results)
    assert threading.active_count() > before
    results.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


@pytest.mark.parametrize(
    ("arguments", "options", "line"),
    [
        ("a.jpg", {}, "predict_files takes several paths, such as a list, got 'a.jpg'"),
        ([Path("a.jpg"), None], {}, "predict_files takes paths, got None"),
        ([], {"batch_size": 0}, "batch_size must be a whole number of at least 1, got 0"),
        ([], {"workers": -1}, "workers must be a whole number of at least 0, got -1"),
    ],
)
def test_wrong_arguments_of_a_stream_are_refused_at_once(
    predictor: Predictor, arguments: Any, options: dict[str, Any], line: str
) -> None:
    with pytest.raises((ConfigError, DataError), match=line):
        predictor.predict_files(arguments, **options)


# Explanations


def test_an_explanation_shows_the_kept_patches_and_the_same_guesses(predictor: Predictor, image: np.ndarray) -> None:
    explanation = explain(predictor, image, top=2)
    assert explanation.guesses == predictor(image, top=2)
    assert explanation.attention.sum() == pytest.approx(1, abs=1e-5)
    highest = np.argsort(explanation.attention.ravel())[::-1][:4]
    assert {row * 3 + column for row, column in explanation.kept} == set(highest.tolist())
    logits = predictor.run([predictor.prepare(predictor.open(image))])[0].logits
    best, second = np.sort(logits)[::-1][:2]
    assert explanation.difference == pytest.approx(best - second, abs=1e-4)
    assert len(explanation.change) == 4
    assert max(map(abs, explanation.change)) > 1e-7, "without a kept patch the answer is another, if hardly"
