"""Explaining one photograph with evidence, against predicting it: what does it cost to know why?

    python benchmarks/explain.py

ViT-tiny at 224 px (random weights: speed does not depend on them), K = 24 of 196 patches, 200 classes. Both
start from a drawn photograph of 500 x 375 pixels in memory. The picture is not drawn.
"""

import numpy as np
from PIL import Image

from common import untrained_network, vit_base
from mpfgvc import Predictor
from mpfgvc.config import DataConfig, ModelConfig, TextTowerConfig
from mpfgvc.inference.forward import preprocessing_of
from mpfgvc.inference.saved_model import SavedModel
from side_by_side import compare_time, report

KEPT, CLASSES = 24, 200


def main() -> None:
    predictor = _predictor()
    pixels = np.random.default_rng(0).integers(0, 256, (375, 500, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    assert predictor.explain(image).guesses == predictor(image, top=3)
    claim = f"explain, one photograph, ViT-tiny, K = {KEPT}, against predicting it"
    row = compare_time(
        claim, ours=lambda: predictor.explain(image), reference=lambda: predictor(image, top=3), wanted=1 / 3, turns=25
    )
    report("explain", [row])


def _predictor() -> Predictor:
    config = ModelConfig(
        image_tower=vit_base(224, "vit_tiny_patch16_224"),
        text_tower=TextTowerConfig(name="mpfgvc-small", pretrained=None),
        kept_tokens=KEPT,
    )
    network = untrained_network(config, CLASSES).deployed()
    preprocessing = preprocessing_of(network.image_encoder.tower.input, DataConfig())
    return Predictor.of(SavedModel(network=network, preprocessing=preprocessing, config=config))


if __name__ == "__main__":
    main()
