"""What stage 1 starts from: one long epoch of embeddings, and the linear probe, against scipy's minimum."""

import numpy as np
import pytest
import torch
from torch import nn

from mpfgvc.model.losses import Objective
from mpfgvc.training.starts import batch_size_of, fit_logistic_regression
from mpfgvc.training.train_stages import EmbeddingLoader

PHOTOGRAPHS, WIDTH, CLASSES, PENALTY = 40, 5, 3, 0.02


def test_it_finds_the_minimum_that_scipy_finds() -> None:
    optimize = pytest.importorskip("scipy.optimize")
    embeddings, labels = _embeddings()
    vectors = embeddings.numpy().astype(np.float64)
    vectors = (vectors - vectors.mean(axis=0)) / vectors.std(axis=0, ddof=1)

    def loss(flat: np.ndarray) -> float:
        weight, bias = flat[: CLASSES * WIDTH].reshape(CLASSES, WIDTH), flat[CLASSES * WIDTH :]
        logits = vectors @ weight.T + bias
        right = logits[np.arange(PHOTOGRAPHS), labels.numpy()]
        return float(np.mean(np.logaddexp.reduce(logits, axis=1) - right) + PENALTY / 2 * (weight**2).sum())

    best = optimize.minimize(loss, np.zeros(CLASSES * (WIDTH + 1)), method="BFGS", options={"gtol": 1e-7})
    expected = vectors @ best.x[: CLASSES * WIDTH].reshape(CLASSES, WIDTH).T + best.x[CLASSES * WIDTH :]
    logits = _fitted(embeddings, labels)(embeddings).detach().numpy()
    centred = [each - each.mean(axis=1, keepdims=True) for each in (logits, expected)]
    np.testing.assert_allclose(*centred, atol=1e-3)


def test_class_weights_and_smoothing_count_as_in_stage_1() -> None:
    """A class of weight 2 equals one whose photographs are there twice, at the same sum of weights."""
    embeddings, labels = _embeddings()
    embeddings = (embeddings - embeddings.mean(dim=0)) / embeddings.std(dim=0)
    counts = torch.where(labels == 1, 2, 1)
    weights = torch.tensor([1.0, 2.0, 1.0]) * len(labels) / counts.sum()
    twice, twice_labels = embeddings.repeat_interleave(counts, 0), labels.repeat_interleave(counts)
    shift, scale = twice.mean(dim=0), twice.std(dim=0)
    weighted = nn.Linear(WIDTH, CLASSES)
    objective = Objective(label_smoothing=0.1, class_weights=weights)
    fit_logistic_regression(weighted, embeddings, labels, objective=objective, penalty=0.0)
    repeated = nn.Linear(WIDTH, CLASSES)
    smoothed = Objective(label_smoothing=0.1)
    fit_logistic_regression(repeated, (twice - shift) / scale, twice_labels, objective=smoothed, penalty=0.0)
    found, expected = weighted(embeddings), repeated((embeddings - shift) / scale)
    centred = [each - each.mean(dim=1, keepdim=True) for each in (found, expected)]
    torch.testing.assert_close(*centred, atol=2e-3, rtol=1e-3)


def test_a_coordinate_that_never_changes_does_no_harm() -> None:
    embeddings, labels = _embeddings()
    embeddings[:, 2] = 4.0
    assert _fitted(embeddings, labels)(embeddings).isfinite().all()


def _fitted(embeddings: torch.Tensor, labels: torch.Tensor) -> nn.Linear:
    classifier = nn.Linear(WIDTH, CLASSES)
    fit_logistic_regression(classifier, embeddings, labels, penalty=PENALTY)
    return classifier


def _embeddings() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(PHOTOGRAPHS) % CLASSES
    embeddings = torch.randn(PHOTOGRAPHS, WIDTH, generator=generator) * 3 + 7
    return embeddings + 2 * labels[:, None], labels


def _batches(first_step: int) -> list[torch.Tensor]:
    embeddings = torch.arange(10.0)[:, None]
    loader = EmbeddingLoader(embeddings, torch.arange(10), batch_size=4, seed=5, steps=7)
    return [values for values, _ in loader.epoch(0, first_step)]


def test_one_long_epoch_goes_on_where_it_was_left() -> None:
    whole = _batches(0)
    assert len(whole) == 7
    assert not torch.equal(whole[0], whole[2])
    for step in (1, 2, 5):
        rest = _batches(step)
        assert len(rest) == 7 - step
        assert all(torch.equal(*pair) for pair in zip(rest, whole[step:], strict=True))


def test_a_batch_is_a_power_of_two_that_the_photographs_fill() -> None:
    assert [batch_size_of(count) for count in (1, 27, 32, 511, 512, 5000)] == [1, 16, 32, 256, 512, 512]
