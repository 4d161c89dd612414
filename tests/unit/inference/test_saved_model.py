"""Forms of the projection that a model folder may hold."""

from pathlib import Path

import pytest
import torch
from torch import nn

from mpfgvc.config import ImageTowerConfig, ModelConfig
from mpfgvc.data.preprocessing import Preprocessing
from mpfgvc.inference.saved_model import SavedModel, load_model, save_model
from mpfgvc.model.network import MPFGVC

IMAGES = torch.randn(2, 3, 48, 80, generator=torch.Generator().manual_seed(0))
TOWER = ImageTowerConfig(name="test_vit", pretrained=False, image_size=[48, 80])


@pytest.mark.parametrize(
    ("embed", "projection"),
    [
        (20, nn.Linear(64, 20, bias=False)),
        (64, nn.Linear(64, 64, bias=False)),  # of a CLIP whose towers have equal widths
        (64, nn.Identity()),
    ],
)
def test_a_model_comes_back_with_the_projection_that_it_was_saved_with(
    tmp_path: Path, embed: int, projection: nn.Module
) -> None:
    config = ModelConfig(image_tower=TOWER, kept_tokens=4)
    network = MPFGVC.deployed_from_config(config, ["crow", "wren", "owl"], embed=embed).eval()
    network.projection = projection
    features = torch.randn(3, embed, generator=torch.Generator().manual_seed(1))
    network.text.features.copy_(features)
    preprocessing = Preprocessing(image_size=(48, 80), mean=(0.4, 0.5, 0.6), std=(0.1, 0.1, 0.1))
    save_model(SavedModel(network=network, preprocessing=preprocessing, config=config), tmp_path / "model")
    again = load_model(tmp_path / "model").network
    with torch.no_grad():
        assert torch.equal(again(IMAGES).text, network(IMAGES).text)
