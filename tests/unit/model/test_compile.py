"""`torch.compile` finds no graph break in what runs at every step."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from mpfgvc.config import ModelConfig
from mpfgvc.model.network import MPFGVC


@pytest.mark.parametrize(
    "name", ["vit_tiny_patch16_224", "eva02_tiny_patch14_224", "vit_small_patch16_rope_mixed_224"]
)
def test_the_image_encoder_compiles_without_a_graph_break(
    name: str, encoder_of: Callable[[str], Any]
) -> None:
    encoder, images = encoder_of(name)
    compiled = torch.compile(encoder, fullgraph=True, backend="eager")
    with torch.no_grad():
        for actual, expected in zip(compiled(images), encoder(images), strict=True):
            torch.testing.assert_close(actual, expected, atol=1e-6, rtol=0)


def test_the_class_prompts_compile_without_a_graph_break(model_config: ModelConfig) -> None:
    text = MPFGVC.from_config(model_config, ["crow", "rock wren", "owl"]).text
    compiled = torch.compile(text, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(), text(), atol=1e-6, rtol=0)
