"""Tiny towers: timm's own test_vit at 48 x 80 pixels (3 x 5 patches), and a text tower of two layers."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import timm
import torch

from mpfgvc.config import ImageTowerConfig, ModelConfig, TextTowerConfig
from mpfgvc.model.image_encoder import ImageEncoder
from mpfgvc.model.towers import text_tower
from mpfgvc.model.towers.image_tower import ImageTower, build_image_tower
from mpfgvc.model.towers.text_tower import TextTower, build_text_tower

EncoderOf = Callable[[str], tuple[ImageEncoder, torch.Tensor]]

TINY_TEXT: dict[str, Any] = {"embed_dim": 20, "text_cfg": {"width": 24, "heads": 3, "layers": 2}}


@pytest.fixture(autouse=True, scope="session")
def tiny_text_by_name() -> Iterator[dict[str, Any]]:
    """Let a config name the tiny text tower `tiny`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(text_tower.TEXT_TOWERS, "tiny", TINY_TEXT)
        yield TINY_TEXT


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Tiny tensors: a second thread costs more than it gives."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def image_config() -> ImageTowerConfig:
    """64 wide, 15 patches."""
    return ImageTowerConfig(name="test_vit", pretrained=False, image_size=[48, 80])


@pytest.fixture(scope="session")
def text_config() -> TextTowerConfig:
    """24 wide, 20 at its output."""
    return TextTowerConfig(name="tiny", pretrained=None)


@pytest.fixture(scope="session")
def model_config(image_config: ImageTowerConfig, text_config: TextTowerConfig) -> ModelConfig:
    """Both tiny towers, 4 kept patches, 6 learnable tokens."""
    return ModelConfig(
        image_tower=image_config, text_tower=text_config, supercategory="sports car", kept_tokens=4, context_tokens=6
    )


@pytest.fixture(scope="session")
def image_tower(image_config: ImageTowerConfig) -> ImageTower:
    """A random image tower, not to be changed."""
    return build_image_tower(image_config).eval()


@pytest.fixture(scope="session")
def tiny_text_tower(text_config: TextTowerConfig) -> TextTower:
    """A random text tower, not to be changed."""
    return build_text_tower(text_config, seed=1)


@pytest.fixture(scope="session")
def encoder_of() -> EncoderOf:
    """A tiny encoder of a timm architecture, with two images of 42 x 56 or 48 x 80 pixels for it."""

    def build(name: str) -> tuple[ImageEncoder, torch.Tensor]:
        image_size = (42, 56) if "patch14" in name else (48, 80)
        sizes = {"embed_dim": 24, "num_heads": 3, "depth": 3, "num_classes": 0, "img_size": image_size}
        encoder = ImageEncoder(tower=ImageTower(timm.create_model(name, **sizes)), kept_tokens=4).eval()
        return encoder, torch.randn(2, 3, *image_size, generator=torch.Generator().manual_seed(0))

    return build
