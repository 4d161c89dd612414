"""What kept patches say: each is left out of the last block, and nothing else changes."""

import pytest
import torch

from mpfgvc.config import ImageTowerConfig
from mpfgvc.errors import CheckpointError
from mpfgvc.inference.evidence import evidence_in, leave_each_out
from mpfgvc.inference.forward import Compute, Inference
from mpfgvc.model.fusion import Fusion
from mpfgvc.model.image_encoder import ImageEncoder
from mpfgvc.model.network import MPFGVC
from mpfgvc.model.prompts import ClassEmbeddings
from mpfgvc.model.selection import keep_tokens
from mpfgvc.model.towers.image_tower import build_image_tower

TOWERS = ["test_vit", "vit_small_patch14_reg4_dinov2", "eva02_tiny_patch14_224"]
"""Plain, with registers, with rotary positions."""


def _encoder(name: str, kept: int) -> ImageEncoder:
    torch.manual_seed(0)
    tower = build_image_tower(ImageTowerConfig(name=name, pretrained=False, image_size=56))
    return ImageEncoder(tower=tower, kept_tokens=kept).eval()


def _inference(kept: int = 5) -> Inference:
    return Inference(network=_network(kept), compute=Compute(device=torch.device("cpu")))


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
    inference, image = _inference(), torch.randn(3, 56, 56)
    network = inference.network
    logits = network(image[None]).text[0]
    evidence = evidence_in(inference, image, "a.png", source="text")
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
    inference, image = _inference(), torch.randn(3, 56, 56)
    evidence = evidence_in(inference, image, "a.png", source="vision")
    scores = inference.network.image_encoder(image[None]).scores[0]
    torch.testing.assert_close(evidence.heads.sum(dim=0), scores, atol=1e-5, rtol=0)


def test_the_output_is_that_of_a_prediction_of_this_image_alone() -> None:
    inference, image = _inference(), torch.randn(3, 56, 56)
    predicted, output = (
        inference(image[None], ["a.png"]),
        evidence_in(inference, image, "a.png", source="fusion").output,
    )
    assert output.prediction == predicted.prediction
    for name in ("vision", "text", "fusion", "embedding", "kept", "scores"):
        torch.testing.assert_close(getattr(output, name), getattr(predicted, name), atol=0, rtol=0)


def test_weights_that_are_damaged_are_named_with_the_photograph() -> None:
    inference = _inference()
    with torch.no_grad():
        inference.network.classifier.weight[0, 0] = torch.nan
    with pytest.raises(CheckpointError, match=r"its output for a\.png is not finite"):
        evidence_in(inference, torch.randn(3, 56, 56), "a.png", source="fusion")


@torch.no_grad()
def test_parts_change_nothing_and_a_single_patch_can_be_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    inference, image = _inference(), torch.randn(3, 56, 56)
    whole = evidence_in(inference, image, "a.png", source="fusion")
    monkeypatch.setattr("mpfgvc.inference.evidence.TOKENS_AT_ONCE", 13)
    parts = evidence_in(inference, image, "a.png", source="fusion")
    torch.testing.assert_close(parts.change, whole.change, atol=1e-5, rtol=0)
    assert evidence_in(_inference(1), image, "a.png", source="fusion").change.shape == (1,)
