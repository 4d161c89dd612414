"""The image encoder against timm alone.

The oracle never touches the code under test: timm's whole forward pass, with a mask in the
last block that hides the dropped patches, and scores from an explicit softmax over the queries
and keys that hooks on timm's own layers saw. Weights are random everywhere, so that no norm,
scale, bias or token stands at a trivial value.
"""

from functools import cache
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from mpfgvc.model.image_encoder import ImageEncoder
from mpfgvc.model.towers.image_tower import ImageTower

BATCH, WIDTH, HEADS, DEPTH = 2, 48, 3, 4

TOWERS: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("vit_tiny_patch16_224", {}),
    "clip": ("vit_base_patch16_clip_224", {}),
    "dinov2-registers": ("vit_small_patch14_reg4_dinov2", {}),
    "layer-scale": ("vit_tiny_patch16_224", {"init_values": 0.1}),
    "qk-norm": ("vit_tiny_patch16_224", {"init_values": 0.1, "qk_norm": True}),
    "eva02-rotary": ("eva02_tiny_patch14_224", {}),
    "eva02-unfused": ("eva02_base_patch14_224", {}),
    "dinov3": ("vit_small_patch16_dinov3", {}),
    "dinov3-biases": ("vit_small_patch16_dinov3_qkvb", {}),
    "mixed-rope": ("vit_small_patch16_rope_mixed_224", {}),
    "beit3-inner-norm": ("beit3_base_patch16_224", {}),
}

every_size = pytest.mark.parametrize(
    ("kind", "size"),
    [
        *((kind, size) for kind in TOWERS for size in ((112, 112), (112, 224))),
        *((kind, (448, 448)) for kind in ("plain", "eva02-rotary")),
    ],
)


@every_size
def test_keeping_every_patch_gives_the_plain_tower(kind: str, size: tuple[int, int]) -> None:
    transformer, images = _transformer(kind, size), _images(size)
    with torch.no_grad():
        expected = _plain_class_token(transformer, images)
        embedding = ImageEncoder(tower=ImageTower(transformer))(images).embedding
    assert embedding.shape == (BATCH, WIDTH)
    assert expected.std() > 0.1
    torch.testing.assert_close(embedding, expected, atol=1e-5, rtol=0)


@every_size
def test_the_class_token_equals_a_masked_last_block(kind: str, size: tuple[int, int]) -> None:
    transformer, images = _transformer(kind, size), _images(size)
    tower = ImageTower(transformer)
    count = tower.patches // 5
    with torch.no_grad():
        chosen = _best(_explicit_scores(kind, size), count)
        expected = _masked_class_token(transformer, images, chosen)
        plain = _plain_class_token(transformer, images)
        embedding = ImageEncoder(tower=tower, kept_tokens=count)(images).embedding
    assert (expected - plain).abs().max() > 1e-2, "the mask must matter"
    torch.testing.assert_close(embedding, expected, atol=1e-5, rtol=0)


@every_size
def test_scores_and_choice_equal_an_explicit_softmax(kind: str, size: tuple[int, int]) -> None:
    transformer, images = _transformer(kind, size), _images(size)
    tower = ImageTower(transformer)
    count = tower.patches // 5
    with torch.no_grad():
        expected = _explicit_scores(kind, size)
        encoded = ImageEncoder(tower=tower, kept_tokens=count)(images)
    assert encoded.scores.shape == (BATCH, tower.patches)
    torch.testing.assert_close(encoded.scores, expected, atol=1e-5 * expected.max().item(), rtol=0)
    best = _best(expected, count)
    for kept, wanted in zip(encoded.kept.tolist(), best.tolist(), strict=True):
        assert set(kept) == set(wanted)
    along = encoded.scores.gather(1, encoded.kept)
    assert (along.diff(dim=1) <= 0).all(), "best first"


@pytest.mark.parametrize("kind", ["plain", "dinov2-registers", "eva02-rotary", "mixed-rope"])
def test_gradients_equal_those_of_the_masked_oracle(kind: str) -> None:
    size = (112, 112)
    transformer, images = _transformer(kind, size), _images(size)
    tower = ImageTower(transformer)
    count = tower.patches // 3
    with torch.no_grad():
        chosen = _best(_explicit_scores(kind, size), count)
    weights = torch.randn(BATCH, WIDTH, generator=torch.Generator().manual_seed(4))
    named = dict(transformer.named_parameters())
    expected = torch.autograd.grad(
        (weights * _masked_class_token(transformer, images, chosen)).sum(), list(named.values())
    )
    encoded = ImageEncoder(tower=tower, kept_tokens=count)(images)
    assert not encoded.scores.requires_grad, "no gradient flows through the choice"
    assert not encoded.kept.is_floating_point()
    gradients = torch.autograd.grad((weights * encoded.embedding).sum(), list(named.values()))
    for name, gradient, wanted in zip(named, gradients, expected, strict=True):
        assert wanted.norm() > 1e-4, name
        assert (gradient - wanted).norm() <= 1e-4 * wanted.norm(), name


def test_under_autocast_the_scored_query_keeps_its_gradient() -> None:
    """Autocast stores cast weights; one cast for the scores must not serve the block without its graph."""
    size = (112, 112)
    transformer, images = _transformer("eva02-unfused", size), _images(size)
    encoder = ImageEncoder(tower=ImageTower(transformer), kept_tokens=9)
    weight = transformer.blocks[-2].attn.q_proj.weight
    (expected,) = torch.autograd.grad(encoder(images).embedding[:, 0].sum(), weight)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        embedding = encoder(images).embedding
    (gradient,) = torch.autograd.grad(embedding[:, 0].float().sum(), weight)
    assert expected.norm() > 1e-4
    assert (gradient - expected).norm() < 0.2 * expected.norm(), "bfloat16 keeps two digits"


@pytest.mark.parametrize("kind", ["plain", "eva02-rotary"])
def test_stochastic_depth_drops_what_timm_drops(kind: str) -> None:
    size = (112, 112)
    transformer, images = _build(kind, size, drop_path_rate=0.6).train(), _images(size)
    encoder = ImageEncoder(tower=ImageTower(transformer))
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        expected = _plain_class_token(transformer, images)
        torch.manual_seed(1)
        trained = encoder(images).embedding
        torch.manual_seed(2)
        other = encoder(images).embedding
        evaluated = encoder.eval()(images).embedding
    torch.testing.assert_close(trained, expected, atol=1e-5, rtol=0)
    assert (trained - evaluated).abs().max() > 1e-2
    assert (trained - other).abs().max() > 1e-2


@pytest.mark.parametrize("kind", ["plain", "clip", "dinov2-registers", "eva02-rotary", "dinov3", "mixed-rope"])
@torch.no_grad()
def test_rollout_is_the_product_of_timms_own_attention_maps_up_to_the_second_to_last_block(kind: str) -> None:
    transformer, images = _build(kind, (112, 168)), _images((112, 168))
    encoded = ImageEncoder(tower=ImageTower(transformer), kept_tokens=7, selection="rollout")(images)
    maps: list[Tensor] = []
    for block in transformer.blocks[:-1]:
        block.attn.fused_attn = False  # else timm never has the map
        block.attn.attn_drop.register_forward_hook(lambda _, __, output: maps.append(output.double().mean(1)))
    transformer.forward_features(images)
    assert len(maps) == DEPTH - 1
    product = torch.eye(maps[0].shape[-1], dtype=torch.float64).expand_as(maps[0])
    for attention in maps:
        product = (0.5 * attention + 0.5 * torch.eye(attention.shape[-1])) @ product
    torch.testing.assert_close(product.sum(dim=-1), torch.ones_like(product[:, 0]), atol=1e-6, rtol=0)
    expected = product[:, 0, transformer.num_prefix_tokens :]
    torch.testing.assert_close(encoded.scores.double(), expected, atol=1e-6, rtol=0)
    assert torch.equal(encoded.kept, _best(encoded.scores, 7))


@cache
def _transformer(kind: str, size: tuple[int, int]) -> Any:
    return _build(kind, size)


def _build(kind: str, size: tuple[int, int], **options: Any) -> Any:
    name, extra = TOWERS[kind]
    shape = {"embed_dim": WIDTH, "num_heads": HEADS, "depth": DEPTH, "img_size": size}
    transformer = timm.create_model(name, num_classes=0, **shape, **extra, **options).eval()
    _randomise(transformer, torch.Generator().manual_seed(3))
    return transformer


@cache
def _images(size: tuple[int, int]) -> Tensor:
    return torch.randn(BATCH, 3, *size, generator=torch.Generator().manual_seed(7))


@torch.no_grad()
def _randomise(module: nn.Module, generator: torch.Generator) -> None:
    for name, parameter in module.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.dim() == 1:
            around = 1.0 if name.endswith("weight") or "gamma" in name else 0.0
            parameter.copy_(around + 0.3 * noise)
        elif name.endswith("weight"):
            parameter.copy_(noise / parameter[0].numel() ** 0.5)
        else:
            parameter.copy_(noise)
    for name, buffer in module.named_buffers():
        if name.endswith("k_bias"):
            buffer.copy_(0.3 * torch.randn(buffer.shape, generator=generator))


def _plain_class_token(transformer: Any, images: Tensor) -> Tensor:
    transformer.global_pool = "token"
    pooled: Tensor = transformer.forward_head(transformer.forward_features(images), pre_logits=True)
    return pooled


def _masked_class_token(transformer: Any, images: Tensor, chosen: Tensor) -> Tensor:
    """timm's own forward pass, in which the last block cannot see the patches outside `chosen`."""
    prefix = transformer.num_prefix_tokens
    patches = transformer.patch_embed.grid_size[0] * transformer.patch_embed.grid_size[1]
    visible = torch.zeros(BATCH, 1, 1, prefix + patches, dtype=torch.bool)
    visible[..., :prefix] = True
    for image, indices in enumerate(chosen.tolist()):
        for index in indices:
            visible[image, 0, 0, prefix + index] = True
    handle = transformer.blocks[-1].register_forward_pre_hook(
        lambda _, arguments, keywords: (arguments, {**keywords, "attn_mask": visible}), with_kwargs=True
    )
    try:
        return _plain_class_token(transformer, images)
    finally:
        handle.remove()


@cache
@torch.no_grad()
def _explicit_scores(kind: str, size: tuple[int, int]) -> Tensor:
    """Row of the class token in the softmax of timm's second-to-last block, summed over the heads."""
    transformer, seen = _transformer(kind, size), dict[str, Any]()
    attention = transformer.blocks[-2].attn
    handles = [
        attention.register_forward_pre_hook(
            lambda _, __, keywords: seen.update(rope=keywords.get("rope")), with_kwargs=True
        ),
        attention.q_norm.register_forward_hook(lambda _, __, output: seen.update(queries=output)),
        attention.k_norm.register_forward_hook(lambda _, __, output: seen.update(keys=output)),
    ]
    transformer.forward_features(_images(size))
    for handle in handles:
        handle.remove()
    prefix = transformer.num_prefix_tokens
    queries, keys = seen["queries"].double(), seen["keys"].double()
    if seen["rope"] is not None:
        keys = torch.cat([keys[:, :, :prefix], _rotated(keys[:, :, prefix:], seen["rope"], attention)], dim=2)
    logits = torch.einsum("bhd,bhkd->bhk", queries[:, :, 0], keys) / queries.shape[-1] ** 0.5
    weights = logits.exp() / logits.exp().sum(dim=-1, keepdim=True)
    return weights[:, :, prefix:].sum(dim=1).float()


def _best(scores: Tensor, count: int) -> Tensor:
    return scores.sort(dim=1, descending=True).indices[:, :count]


def _rotated(heads: Tensor, rope: Tensor, attention: Any) -> Tensor:
    """Each pair of numbers, as a complex one, turned by its angle; pairs are neighbours or halves apart."""
    sine, cosine = rope.double().chunk(2, dim=-1)
    if getattr(attention, "rotate_half", False):
        half = heads.shape[-1] // 2
        pairs = torch.complex(heads[..., :half], heads[..., half:])
        turned = pairs * torch.complex(cosine[..., :half], sine[..., :half])
        return torch.cat([turned.real, turned.imag], dim=-1)
    pairs = torch.complex(heads[..., ::2], heads[..., 1::2])
    turned = pairs * torch.complex(cosine[..., ::2], sine[..., ::2])
    return torch.stack([turned.real, turned.imag], dim=-1).flatten(-2)
