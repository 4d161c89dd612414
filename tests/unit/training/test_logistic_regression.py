"""The linear probe, against scipy's minimum of the same function."""

import numpy as np
import pytest
import torch
from torch import nn

from mpfgvc.training.logistic_regression import fit_logistic_regression

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
