"""Both stages' objectives against the formulas of the paper, written out with exp and log."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mpfgvc.model.losses import Objective, balanced_weights, classification_loss

BATCH, CLASSES, WIDTH = 6, 4, 5
TEMPERATURE = 0.07
LABELS = torch.tensor([0, 3, 1, 1, 2, 0])


def test_the_image_to_text_loss_is_that_of_cosines_over_the_temperature() -> None:
    generator = torch.Generator().manual_seed(1)
    embeddings = torch.randn(BATCH, WIDTH, generator=generator).tolist()
    texts = torch.randn(CLASSES, WIDTH, generator=generator).tolist()
    cosines = [[_cosine(embedding, text) for text in texts] for embedding in embeddings]
    expected = 0.0
    for row, label in zip(cosines, LABELS.tolist(), strict=True):
        total = sum(math.exp(cosine / TEMPERATURE) for cosine in row)
        expected += -math.log(math.exp(row[label] / TEMPERATURE) / total) / BATCH
    logits = torch.tensor(cosines) / TEMPERATURE
    assert classification_loss(logits, LABELS, Objective()).item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7])
@pytest.mark.parametrize("weights", [None, [0.5, 1.5, 2.0, 0.0]])
def test_smoothing_spreads_the_target_and_weights_count_the_photograph(
    smoothing: float, weights: list[float] | None
) -> None:
    logits = _logits(4)
    objective = Objective(smoothing, None if weights is None else torch.tensor(weights))
    expected = _by_hand(logits, smoothing, weights or [1.0] * CLASSES)
    assert classification_loss(logits, LABELS, objective).item() == pytest.approx(expected, abs=1e-5)


def test_a_batch_in_equal_parts_has_the_gradient_of_the_whole() -> None:
    objective = Objective(0.1, torch.tensor([0.5, 1.5, 2.0, 0.1]))
    whole, parts = _logits(5).requires_grad_(), _logits(5).requires_grad_()
    classification_loss(whole, LABELS, objective).backward()
    halves = [slice(0, 3), slice(3, 6)]
    sum(classification_loss(parts[half], LABELS[half], objective) / 2 for half in halves).backward()
    torch.testing.assert_close(parts.grad, whole.grad, atol=1e-7, rtol=0)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 5000), min_size=1, max_size=9).filter(any))
def test_balanced_weights_make_every_class_count_the_same(counts: list[int]) -> None:
    weights = balanced_weights(torch.tensor(counts))
    assert weights.dtype == torch.float32
    photographs = sum(counts)
    present = sum(count > 0 for count in counts)
    for weight, count in zip(weights.tolist(), counts, strict=True):
        share = weight * count / photographs
        assert share == pytest.approx(1 / present if count else 0, rel=1e-5)
        assert weight == 0 or count > 0
    mean = sum(weight * count for weight, count in zip(weights.tolist(), counts, strict=True)) / photographs
    assert mean == pytest.approx(1, rel=1e-5)


def _logits(seed: int) -> Tensor:
    return 2 * torch.randn(BATCH, CLASSES, generator=torch.Generator().manual_seed(seed))


def _cosine(left: list[float], right: list[float]) -> float:
    dot = sum(a * b for a, b in zip(left, right, strict=True))
    return dot / math.sqrt(sum(a * a for a in left) * sum(b * b for b in right))


def _by_hand(logits: Tensor, smoothing: float, weights: list[float]) -> float:
    """Mean over the batch of weight x cross-entropy with the smoothed target."""
    total = 0.0
    for row, label in zip(logits.tolist(), LABELS.tolist(), strict=True):
        log_sum = math.log(sum(math.exp(value) for value in row))
        for index, value in enumerate(row):
            target = smoothing / CLASSES + (1 - smoothing) * (index == label)
            total += weights[label] * target * (log_sum - value)
    return total / BATCH
