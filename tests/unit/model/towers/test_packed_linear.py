"""Packed layers compute what plain ones do, in every kind of tower, and can be saved, copied and derived."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mpfgvc.model.image_encoder import ImageEncoder
from mpfgvc.model.towers.packed_linear import PackedLinear, can_pack

needs_bf16 = pytest.mark.skipif(not can_pack(torch.bfloat16), reason="this processor does not multiply in bf16")
needs_onednn = pytest.mark.skipif(not can_pack(), reason="PyTorch has no oneDNN for this processor")
LAYERS = {  # of three blocks
    "vit_tiny_patch16_224": 3 * 3 + 1,  # two of the MLP and a projection; the first block's qkv
    "eva02_tiny_patch14_224": 3 * 3,  # no qkv
    "eva02_base_patch14_224": 3 * 7,  # three of the MLP, queries, keys, values and a projection apart
    "beit3_base_patch16_224": 3 * 3 + 1,
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
@pytest.mark.parametrize("bias", [True, False])
def test_a_copy_a_pickle_and_a_state_dictionary_hold_the_plain_weight(bias: bool) -> None:
    layer, tokens = nn.Linear(11, 5, bias=bias), torch.randn(2, 3, 11, requires_grad=True)
    packed = PackedLinear(layer)
    gradients = [torch.autograd.grad(each(tokens).square().sum(), tokens)[0] for each in (packed, layer)]
    torch.testing.assert_close(*gradients)
    state = packed.state_dict()
    assert set(state) == set(layer.state_dict())
    assert all(torch.equal(state[name], value) for name, value in layer.state_dict().items())
    with torch.inference_mode():
        expected = tokens @ layer.weight.T + (layer.bias if bias else 0)
        for each in (packed, copy.deepcopy(packed), pickle.loads(pickle.dumps(packed))):  # noqa: S301
            torch.testing.assert_close(each(tokens), expected)


@needs_bf16
@pytest.mark.parametrize("bias", [True, False])
@torch.inference_mode()
def test_a_layer_packed_in_bf16_rounds_as_autocast_does_and_is_exact_outside_of_it(bias: bool) -> None:
    layer, tokens = nn.Linear(64, 48, bias=bias), torch.randn(2, 3, 64)
    packed = PackedLinear(layer, torch.bfloat16)
    for each in (packed, copy.deepcopy(packed), pickle.loads(pickle.dumps(packed))):  # noqa: S301
        with torch.autocast("cpu", torch.bfloat16):
            torch.testing.assert_close(each(tokens), layer(tokens), atol=0.02, rtol=0.02)
            assert each(tokens).dtype == torch.bfloat16
        rounded = layer.weight.bfloat16().float()
        torch.testing.assert_close(each(tokens), F.linear(tokens, rounded, layer.bias))
    assert torch.equal(packed.state_dict()["weight"], layer.weight.bfloat16().float())


@pytest.mark.parametrize("lacks", ["platform.machine", "torch.backends.mkldnn.is_available"])
@torch.inference_mode()
def test_where_packing_is_not_available_the_tower_stays_as_it_is(
    lacks: str, encoder_of: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, images = encoder_of("vit_tiny_patch16_224")
    monkeypatch.setattr(lacks, lambda: None)
    packed = _packed(encoder)
    assert not any(isinstance(module, PackedLinear) for module in packed.modules())
    assert torch.equal(packed(images).embedding, encoder(images).embedding)
