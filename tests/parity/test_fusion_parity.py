"""The fusion module against `torch.nn.MultiheadAttention` with one head, and its transform by hand."""

import math

import pytest
import torch
from torch import Tensor, nn

from mpfgvc.model.fusion import Fusion

BATCH, CLASSES, WIDTH = 5, 7, 12


def test_attention_equals_torchs_when_image_and_text_share_their_projections() -> None:
    fusion = _fusion(text_width=WIDTH)
    fusion.text_key.load_state_dict(fusion.key.state_dict())
    fusion.text_value.load_state_dict(fusion.value.state_dict())
    attention = nn.MultiheadAttention(WIDTH, num_heads=1, batch_first=True)
    projections = [fusion.query, fusion.key, fusion.value]
    with torch.no_grad():
        attention.in_proj_weight.copy_(torch.cat([layer.weight for layer in projections]))
        attention.in_proj_bias.copy_(torch.cat([layer.bias for layer in projections]))
    _make_identity(attention.out_proj)
    embedding, text_features = _inputs(WIDTH)
    sources = torch.cat([embedding.unsqueeze(1), text_features.expand(BATCH, -1, -1)], dim=1)
    expected = attention(embedding.unsqueeze(1), sources, sources)[0].squeeze(1)
    _assert_close(fusion.attend(embedding, fusion.memory(text_features)), expected)


@pytest.mark.parametrize("text_width", [WIDTH, 9, 20])
def test_attention_equals_torchs_with_projections_of_its_own_for_text(text_width: int) -> None:
    """The reference sees image and text side by side: [E_V, 1, 0, 0] and [0, 0, E_T, 1].

    A key and value projection over that, [W, b, W_text, b_text], needs no bias of its own.
    """
    fusion = _fusion(text_width=text_width)
    wide = WIDTH + text_width + 2
    attention = nn.MultiheadAttention(WIDTH, num_heads=1, kdim=wide, vdim=wide, batch_first=True)
    with torch.no_grad():
        attention.q_proj_weight.copy_(fusion.query.weight)
        attention.in_proj_bias.zero_()[:WIDTH].copy_(fusion.query.bias)
        attention.k_proj_weight.copy_(_side_by_side(fusion.key, fusion.text_key))
        attention.v_proj_weight.copy_(_side_by_side(fusion.value, fusion.text_value))
    _make_identity(attention.out_proj)
    embedding, text_features = _inputs(text_width)
    images = torch.cat([embedding, torch.ones(BATCH, 1), torch.zeros(BATCH, text_width + 1)], dim=1)
    texts = torch.cat([torch.zeros(CLASSES, WIDTH + 1), text_features, torch.ones(CLASSES, 1)], dim=1)
    sources = torch.cat([images.unsqueeze(1), texts.expand(BATCH, -1, -1)], dim=1)
    expected = attention(embedding.unsqueeze(1), sources, sources)[0].squeeze(1)
    _assert_close(fusion.attend(embedding, fusion.memory(text_features)), expected)


def test_the_transform_widens_fourfold_then_narrows() -> None:
    fusion = _fusion(text_width=9)
    embedding, text_features = _inputs(9)
    attended = fusion.attend(embedding, fusion.memory(text_features))
    wide, narrow = fusion.transform[0], fusion.transform[-1]
    assert wide.weight.shape == (4 * WIDTH, WIDTH)
    assert narrow.weight.shape == (WIDTH, 4 * WIDTH)

    hidden = attended @ wide.weight.T + wide.bias
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
    fused = hidden @ narrow.weight.T + narrow.bias
    expected = fused @ fusion.classifier.weight.T + fusion.classifier.bias
    logits = fusion(embedding, text_features)
    assert logits.shape == (BATCH, CLASSES)
    _assert_close(logits, expected)


def test_weights_start_small_without_biases_and_follow_the_seed() -> None:
    first, again, other = (Fusion(width=64, text_width=40, classes=CLASSES, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(first.key.weight, again.key.weight)
    assert not torch.equal(first.key.weight, other.key.weight)
    for layer in (first.key, first.text_key, *first.transform[::2], first.classifier):
        assert abs(layer.weight.std().item() - 0.02) < 0.003
        assert not layer.bias.any()


def test_attention_starts_uniform_over_the_image_and_every_text() -> None:
    fusion = Fusion(width=WIDTH, text_width=9, classes=CLASSES)
    embedding, text_features = _inputs(9)
    values = fusion.value(embedding) + fusion.text_value(text_features).sum(dim=0)
    torch.testing.assert_close(fusion.attend(embedding, fusion.memory(text_features)), values / (CLASSES + 1))


def _fusion(*, text_width: int) -> Fusion:
    fusion = Fusion(width=WIDTH, text_width=text_width, classes=CLASSES)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in fusion.parameters():
            parameter.copy_(0.4 * torch.randn(parameter.shape, generator=generator))
    return fusion


def _inputs(text_width: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    return (torch.randn(BATCH, WIDTH, generator=generator), torch.randn(CLASSES, text_width, generator=generator))


def _side_by_side(image: nn.Linear, text: nn.Linear) -> Tensor:
    parts = [image.weight, image.bias.unsqueeze(1), text.weight, text.bias.unsqueeze(1)]
    return torch.cat(parts, dim=1)


def _make_identity(layer: nn.Linear) -> None:
    with torch.no_grad():
        layer.weight.copy_(torch.eye(WIDTH))
        layer.bias.zero_()


def _assert_close(actual: Tensor, expected: Tensor) -> None:
    assert expected.std() > 0.1
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=0)
