"""Accuracy against coverage, by hand."""

import numpy as np
import pytest

from mpfgvc.evaluation.coverage import POINTS, Covered, accuracy_by_coverage, at_coverage


def test_the_surest_answers_come_first_and_equal_ones_come_together() -> None:
    confidence = np.array([0.5, 0.9, 0.5, 0.8])
    right = np.array([False, True, True, True])
    assert accuracy_by_coverage(confidence, right) == [
        Covered(0.25, 1.0, 0.9),
        Covered(0.5, 1.0, 0.8),
        Covered(1.0, 0.75, 0.5),
    ]


def test_a_long_curve_is_thinned_out_and_keeps_both_ends() -> None:
    random = np.random.default_rng(0)
    confidence, right = random.random(5000), random.random(5000) < 0.7
    curve = accuracy_by_coverage(confidence, right)
    assert len(curve) == POINTS
    assert (curve[0].coverage, curve[-1].coverage) == (1 / 5000, 1.0)
    assert curve[-1].accuracy == pytest.approx(right.mean())
    assert at_coverage(curve, 0.8).coverage == pytest.approx(0.8, abs=0.01)


def test_without_photographs_there_is_no_curve() -> None:
    assert accuracy_by_coverage(np.array([]), np.array([], dtype=bool)) == []
