"""Before its first step the fusion module says what `fusion.py` states; computed here by hand."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from mpfgvc.model.fusion import Fusion, start_fusion
from mpfgvc.model.network import MPFGVC
from mpfgvc.model.prompts import ClassEmbeddings

PHOTOGRAPHS, CLASSES, TEMPERATURE = 60, 7, 0.3


@pytest.mark.parametrize("gain", [1.0, 4.0])
@pytest.mark.parametrize(("width", "embed"), [(12, 12), (16, 9), (10, 24)])
def test_the_logits_are_stage_1s_vision_logits_and_a_vote_of_each_text(width: int, embed: int, gain: float) -> None:
    network, embeddings = _trained_network(width, embed)
    start_fusion(network, embeddings, gain=gain)
    fusion = network.logits(embeddings).fusion
    expected = _expected(network, embeddings, gain=gain)
    torch.testing.assert_close(fusion, expected, atol=1e-4, rtol=1e-4)


def test_the_image_has_about_half_of_the_attention() -> None:
    network, embeddings = _trained_network(16, 9)
    start_fusion(network, embeddings)
    scores = network.fusion.query(embeddings) @ network.fusion.key(embeddings).T / math.sqrt(16)
    texts = network.fusion.query(embeddings) @ network.fusion.text_key(network.text()).T / math.sqrt(16)
    own = (scores.diagonal() - texts.logsumexp(dim=1)).sigmoid()
    assert 0.4 < own.mean() < 0.6


def test_it_draws_no_random_numbers_and_leaves_stage_1_as_it_was() -> None:
    network, embeddings = _trained_network(16, 9)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    random = torch.get_rng_state()
    start_fusion(network, embeddings)
    assert torch.equal(torch.get_rng_state(), random)
    for name, value in network.state_dict().items():
        assert name.startswith(("fusion.", "text.")) or torch.equal(value, before[name]), name
    again, embeddings = _trained_network(16, 9)
    start_fusion(again, embeddings)
    for name, value in again.state_dict().items():
        assert torch.equal(value, network.state_dict()[name]), name


def _expected(network: MPFGVC, embeddings: Tensor, *, gain: float) -> Tensor:
    """own / mean own * W V + b, and for each class the share of its text above the mean, times the height."""
    projected = list(network.projection(embeddings))
    norm = torch.stack([vector.norm() for vector in projected]).mean()
    texts = [text / text.norm() for text in network.text()]
    scores = torch.stack([torch.stack([each @ text for text in texts]) for each in projected])
    scores = scores / norm / TEMPERATURE
    target = scores.exp().sum(dim=1).log()
    queries = network.fusion.query(embeddings)
    fitted = queries @ torch.linalg.lstsq(queries, target[:, None]).solution
    shares = torch.cat([fitted, scores], dim=1).softmax(dim=1)
    vision = embeddings @ network.classifier.weight.T
    logits = vision + network.classifier.bias
    height = (logits.max(dim=1).values - logits.mean(dim=1)).mean()
    own = torch.sigmoid(fitted[:, 0] - target)
    votes = shares[:, 1:] - shares[:, 1:].mean(dim=1, keepdim=True)
    image = (own / own.mean())[:, None] * vision + network.classifier.bias
    return image + gain * height * votes / (1 - own.mean())


def _trained_network(width: int, embed: int) -> tuple[MPFGVC, Tensor]:
    """A network whose stage 1 could have been trained, and embeddings. Its image encoder is not used."""
    torch.manual_seed(3)
    encoder: Any = SimpleNamespace(tower=SimpleNamespace(width=width))
    network = MPFGVC(
        image_encoder=encoder,
        text=ClassEmbeddings(torch.randn(CLASSES, embed)),
        embed=embed,
        fusion=Fusion(width=width, text_width=embed, classes=CLASSES),
        classes=[f"class {number}" for number in range(CLASSES)],
        temperature=TEMPERATURE,
    )
    return network.eval().requires_grad_(False), torch.randn(PHOTOGRAPHS, width) + 0.5
