"""The image encoder's settings and what it returns; its numbers are in tests/parity."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from mpfgvc.config import Selection
from mpfgvc.model.image_encoder import ImageEncoder
from mpfgvc.model.towers.image_tower import ImageTower


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "vit_small_patch16_dinov3"])
def test_images_of_another_size_are_refused(name: str, encoder_of: Callable[[str], Any]) -> None:
    """Also by a tower that could take them, as the number of patches to keep was counted for its own size."""
    encoder, images = encoder_of(name)
    with pytest.raises(AssertionError, match="doesn't match model"):
        encoder(images.repeat(1, 1, 2, 2))


def test_a_dropped_patch_still_speaks_in_the_second_to_last_block(image_tower: ImageTower) -> None:
    """Only the last block is cut: what was dropped there had its say in the block before."""
    encoder = ImageEncoder(tower=image_tower, kept_tokens=1)
    images = torch.randn(1, 3, 48, 80, generator=torch.Generator().manual_seed(0), requires_grad=True)
    encoded = encoder(images)
    (gradient,) = torch.autograd.grad(encoded.embedding.square().sum(), images)
    by_patch = gradient.abs().unfold(2, 16, 16).unfold(3, 16, 16).sum(dim=(0, 1, 4, 5))
    assert by_patch.shape == (3, 5)
    assert (by_patch > 0).all()


def test_random_patches_differ_between_images_in_training_and_follow_torchs_seed(image_tower: ImageTower) -> None:
    encoder = ImageEncoder(tower=image_tower, kept_tokens=4, selection="random").train()
    images = torch.randn(6, 3, 48, 80, generator=torch.Generator().manual_seed(0))
    draws = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        draws.append(encoder(images).kept)
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert len({tuple(row) for row in draws[0].tolist()}) > 1


@torch.no_grad()
def test_random_patches_are_the_same_for_every_image_and_batch_in_evaluation(image_tower: ImageTower) -> None:
    encoder = ImageEncoder(tower=image_tower, kept_tokens=4, selection="random").eval()
    images = torch.randn(6, 3, 48, 80, generator=torch.Generator().manual_seed(0))
    whole, one = encoder(images), encoder(images[4:5])
    assert (whole.kept == one.kept).all()
    torch.testing.assert_close(whole.embedding[4:5], one.embedding, atol=1e-6, rtol=0)
    by_attention = ImageEncoder(tower=image_tower, kept_tokens=4).eval()(images)
    assert not torch.equal(whole.kept.sort().values, by_attention.kept.sort().values)
    assert not any(name.startswith("selection") for name in encoder.state_dict())


@pytest.mark.parametrize("selection", ["rollout", "random"])
@torch.no_grad()
def test_with_every_patch_kept_it_does_not_matter_what_chooses(image_tower: ImageTower, selection: Selection) -> None:
    images = torch.randn(2, 3, 48, 80, generator=torch.Generator().manual_seed(0))
    embeddings = [
        ImageEncoder(tower=image_tower, selection=each)(images).embedding for each in ("attention", selection)
    ]
    torch.testing.assert_close(embeddings[0], embeddings[1], atol=1e-5, rtol=0)
