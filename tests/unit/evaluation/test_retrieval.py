"""Recall@k."""

import numpy as np
import pytest

from mpfgvc.evaluation.evaluate import recall_at


def test_recall_counts_those_who_find_their_class_among_others() -> None:
    values = np.array([[1, 0], [1, 0.1], [0.9, 0.2], [0, 1], [0.2, 1]], dtype=np.float32)
    labels = np.array([0, 1, 0, 2, 3])
    # Nearest to 0: 1, 2. To 1: 0, 2. To 2: 1, 0. The classes of 3 and 4 have no second photograph.
    assert recall_at(values, labels, [1, 2, 9]) == {1: 0.0, 2: 2 / 5, 9: 2 / 5}


def test_parts_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    values = generator.normal(size=(23, 4)).astype(np.float32)
    labels = generator.integers(0, 5, 23)
    whole = recall_at(values, labels, [1, 4])
    monkeypatch.setattr("mpfgvc.evaluation.retrieval.QUERIES_AT_ONCE", 7)
    assert recall_at(values, labels, [1, 4]) == whole
    assert 0 < whole[1] < whole[4]


def test_a_single_photograph_finds_nothing() -> None:
    assert recall_at(np.ones((1, 3), dtype=np.float32), np.array([0]), [1]) == {1: 0.0}
