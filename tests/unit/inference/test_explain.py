"""What kept patches say: each is left out of the last block, and nothing else changes."""

import pytest
import torch

from mpfgvc.config import ImageTowerConfig
from mpfgvc.errors import CheckpointError
from mpfgvc.inference import explain
from mpfgvc.inference.explain import embeddings_without, leave_each_out
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
    found = embeddings_without(encoder, encoder.select(image))
    block, last_block = encoder.tower.last_two_blocks()
    tokens, rope = encoder.tower.before_last_two_blocks(image)
    memory = block.keys_and_values(tokens, rope)
    kept = encoder(image).kept
    for left_out in range(5):
        rest = torch.cat([kept[:, :left_out], kept[:, left_out + 1 :]], dim=1)
        survivors = block(keep_tokens(tokens, rest, prefix=encoder.tower.prefix_tokens), memory, rope.at(rest))
        expected = last_block(survivors[:, :1], last_block.keys_and_values(survivors, rope.at(rest)))
        torch.testing.assert_close(
            found[left_out : left_out + 1], encoder.tower.final_norm(expected[:, 0]), atol=1e-5, rtol=0
        )


def test_the_output_is_that_of_a_prediction_of_this_image_alone() -> None:
    inference, image = _inference(), torch.randn(3, 56, 56)
    predicted, (output, _) = inference(image[None], ["a.png"]), leave_each_out(inference, image, "a.png")
    assert output.prediction == predicted.prediction
    for name in ("vision", "text", "fusion", "embedding", "kept", "scores"):
        torch.testing.assert_close(getattr(output, name), getattr(predicted, name), atol=0, rtol=0)


def test_weights_that_are_damaged_are_named_with_the_photograph() -> None:
    inference = _inference()
    with torch.no_grad():
        inference.network.classifier.weight[0, 0] = torch.nan
    with pytest.raises(CheckpointError, match=r"its output for a\.png is not finite"):
        leave_each_out(inference, torch.randn(3, 56, 56), "a.png")


def test_parts_change_nothing_and_a_single_patch_can_be_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    inference, image = _inference(), torch.randn(3, 56, 56)
    _, whole = leave_each_out(inference, image, "a.png")
    monkeypatch.setattr(explain, "TOKENS_AT_ONCE", 13)
    _, parts = leave_each_out(inference, image, "a.png")
    torch.testing.assert_close(parts.fusion, whole.fusion, atol=1e-5, rtol=0)
    assert len(whole.fusion) == 5
    assert len(leave_each_out(_inference(1), image, "a.png")[1].fusion) == 1
