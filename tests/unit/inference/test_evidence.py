"""What kept patches say: each is left out of the last block, and nothing else changes."""

import pytest
import torch

from mpfgvc.config import ImageTowerConfig
from mpfgvc.inference.evidence import evidence_of, leave_each_out
from mpfgvc.inference.forward import Compute
from mpfgvc.model.fusion import Fusion
from mpfgvc.model.image_encoder import ImageEncoder
from mpfgvc.model.network import MPFGVC
from mpfgvc.model.prompts import ClassEmbeddings
from mpfgvc.model.selection import keep_tokens
from mpfgvc.model.towers.image_tower import build_image_tower

CPU = Compute(device=torch.device("cpu"))
TOWERS = ["test_vit", "vit_small_patch14_reg4_dinov2", "eva02_tiny_patch14_224"]
"""Plain, with registers, with rotary positions."""


def _encoder(name: str, kept: int) -> ImageEncoder:
    torch.manual_seed(0)
    tower = build_image_tower(ImageTowerConfig(name=name, pretrained=False, image_size=56))
    return ImageEncoder(tower=tower, kept_tokens=kept).eval()


def _network(kept: int = 5) -> MPFGVC:
    encoder = _encoder("test_vit", kept)
    width = encoder.tower.width
    generator = torch.Generator().manual_seed(1)
    return MPFGVC(
        image_encoder=encoder,
        text=ClassEmbeddings(torch.randn(4, 10, generator=generator)),
        embed=10,
        fusion=Fusion(width=width, text_width=10, classes=4, seed=0),
        classes=("a", "b", "c", "d"),
        temperature=0.07,
    ).eval()


@pytest.mark.parametrize("name", TOWERS)
@torch.no_grad()
def test_a_patch_is_left_out_as_if_it_had_not_been_kept(name: str) -> None:
    encoder = _encoder(name, 5)
    image = torch.randn(1, 3, 56, 56)
    found = leave_each_out(encoder, encoder.select(image))
    block, last_block = encoder.tower.last_two_blocks()
    tokens, rope = encoder.tower.before_last_two_blocks(image)
    memory = block.keys_and_values(tokens, rope)
    kept = encoder(image).kept
    for left_out in range(5):
        rest = torch.cat([kept[:, :left_out], kept[:, left_out + 1 :]], dim=1)
        survivors = block(
            keep_tokens(tokens, rest, prefix=encoder.tower.prefix_tokens), memory, rope.at(rest)
        )
        expected = last_block(survivors[:, :1], last_block.keys_and_values(survivors, rope.at(rest)))
        torch.testing.assert_close(
            found[left_out : left_out + 1], encoder.tower.final_norm(expected[:, 0]), atol=1e-5, rtol=0
        )


@torch.no_grad()
def test_the_change_is_that_of_the_difference_between_the_two_best_logits() -> None:
    network, image = _network(), torch.randn(3, 56, 56)
    logits = network(image[None]).text[0]
    evidence = evidence_of(network, image, source="text", compute=CPU)
    assert [evidence.answer, evidence.against] == logits.topk(2).indices.tolist()
    assert evidence.difference == pytest.approx(
        (logits.topk(2).values @ torch.tensor([1.0, -1.0])).item(), abs=1e-4
    )
    without = network.logits(leave_each_out(network.image_encoder, network.image_encoder.select(image[None])))
    rest = without.text[:, evidence.answer] - without.text[:, evidence.against]
    torch.testing.assert_close(evidence.change, evidence.difference - rest, atol=1e-4, rtol=0)
    assert evidence.change.abs().max() > 1e-3


@torch.no_grad()
def test_the_heads_together_are_the_scores() -> None:
    network, image = _network(), torch.randn(3, 56, 56)
    evidence = evidence_of(network, image, source="vision", compute=CPU)
    torch.testing.assert_close(
        evidence.heads.sum(dim=0), network.image_encoder(image[None]).scores[0], atol=1e-5, rtol=0
    )


@torch.no_grad()
def test_parts_change_nothing_and_a_single_patch_can_be_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    network, image = _network(), torch.randn(3, 56, 56)
    whole = evidence_of(network, image, source="fusion", compute=CPU)
    monkeypatch.setattr("mpfgvc.inference.evidence.TOKENS_AT_ONCE", 13)
    parts = evidence_of(network, image, source="fusion", compute=CPU)
    torch.testing.assert_close(parts.change, whole.change, atol=1e-5, rtol=0)
    assert evidence_of(_network(1), image, source="fusion", compute=CPU).change.shape == (1,)
