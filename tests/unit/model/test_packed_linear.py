"""Packed layers compute what the plain ones do, in every kind of block."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from mpfgvc.model.image_encoder import ImageEncoder
from mpfgvc.model.packed_linear import PackedLinear, can_pack

needs_onednn = pytest.mark.skipif(not can_pack(), reason="PyTorch has no oneDNN for this processor")
LAYERS = {  # in three blocks: 2 of each MLP, 1 projection, and of timm's own attention the first block's qkv
    "vit_tiny_patch16_224": 3 * 3 + 1,
    "vit_small_patch14_reg4_dinov2": 3 * 3 + 1,
    "eva02_tiny_patch14_224": 3 * 3,
    "vit_small_patch16_dinov3": 3 * 3,
}


def _packed(encoder: ImageEncoder) -> ImageEncoder:
    encoder = copy.deepcopy(encoder)
    encoder.tower.pack()
    return encoder


@needs_onednn
@pytest.mark.parametrize("name", LAYERS)
@torch.inference_mode()
def test_a_packed_tower_gives_the_same_embedding_and_keeps_the_same_patches(
    name: str, encoder_of: Callable[[str], Any]
) -> None:
    encoder, images = encoder_of(name)
    packed = _packed(encoder)
    assert sum(isinstance(module, PackedLinear) for module in packed.modules()) == LAYERS[name]
    plain, result = encoder(images), packed(images)
    torch.testing.assert_close(result.embedding, plain.embedding, atol=1e-5, rtol=0)
    torch.testing.assert_close(result.scores, plain.scores, atol=1e-5, rtol=0)
    assert torch.equal(result.kept, plain.kept)


@needs_onednn
@torch.inference_mode()
@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_with_and_without_bias(bias: bool) -> None:
    layer = nn.Linear(11, 5, bias=bias)
    tokens = torch.randn(2, 3, 11)
    torch.testing.assert_close(
        PackedLinear(layer)(tokens), tokens @ layer.weight.T + (layer.bias if bias else 0)
    )


@torch.inference_mode()
def test_without_onednn_the_tower_stays_as_it_is(
    encoder_of: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, images = encoder_of("vit_tiny_patch16_224")
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    packed = _packed(encoder)
    assert not any(isinstance(module, PackedLinear) for module in packed.modules())
    assert torch.equal(packed(images).embedding, encoder(images).embedding)
