"""A network of 48 x 64 pixels (3 x 4 patches) and 5 classes, and what describes it."""

import pytest
import torch

from mpfgvc.config import ImageTowerConfig, ModelConfig, TextTowerConfig
from mpfgvc.data.preprocessing import Preprocessing
from mpfgvc.inference.description import ModelDescription
from mpfgvc.model.network import MPFGVC

CLASSES = ("crow", "rock wren", "barn owl", "blue jay", "red kite")


@pytest.fixture(scope="session")
def model_config() -> ModelConfig:
    return ModelConfig(
        image_tower=ImageTowerConfig(name="test_vit", pretrained=False, image_size=[48, 64]),
        text_tower=TextTowerConfig(name="mpfgvc-small", pretrained=None),
        kept_tokens=5,
        context_tokens=2,
    )


@pytest.fixture(scope="session")
def description(model_config: ModelConfig) -> ModelDescription:
    preprocessing = Preprocessing(image_size=(48, 64), mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
    return ModelDescription(classes=CLASSES, embed=7, preprocessing=preprocessing, model=model_config)


@pytest.fixture
def network(description: ModelDescription) -> MPFGVC:
    """Random weights; to be changed as a test likes."""
    network = MPFGVC.deployed_from_config(description.model, CLASSES, embed=description.embed)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in network.state_dict().values():
            tensor.copy_(0.1 * torch.randn(tensor.shape, generator=generator))
    return network.eval()
