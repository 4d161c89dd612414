"""The calibration error against its definition, written as a loop, and on answers whose error is known."""

import numpy as np
import pytest

from mpfgvc.evaluation.calibration import (
    calibration_error_interval,
    expected_calibration_error,
    reliability,
)


def drawn(count: int, *, shift: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Confidences, and answers that are right with their confidence minus `shift`."""
    random = np.random.default_rng(seed)
    confidence = random.uniform(0.4, 1, count)
    return confidence, random.random(count) < confidence - shift


def test_it_is_the_weighted_mean_distance_over_the_bins() -> None:
    confidence, right = drawn(300, shift=0.1)
    expected = 0.0
    for place in range(10):
        inside = (confidence > place / 10) & (confidence <= (place + 1) / 10)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert expected_calibration_error(confidence, right, bins=10) == pytest.approx(expected)


def test_an_edge_belongs_to_the_bin_below_and_zero_and_one_to_the_outer_ones() -> None:
    confidence = np.array([0.0, 0.2, 0.2000001, 1.0])
    assert [each.count for each in reliability(confidence, np.ones(4, dtype=bool), bins=5)] == [2, 1, 0, 0, 1]


def test_the_interval_holds_the_error_that_the_answers_were_drawn_with() -> None:
    confidence, right = drawn(4000, shift=0.15)
    interval = calibration_error_interval(confidence, right)
    assert interval.low < 0.15 < interval.high
    assert interval.high - interval.low < 0.06
    assert calibration_error_interval(confidence, right) == interval


def test_calibrated_answers_have_an_interval_that_begins_near_0() -> None:
    confidence, right = drawn(4000, shift=0)
    assert calibration_error_interval(confidence, right).low < 0.005


def test_without_answers_there_is_no_error() -> None:
    nothing = np.array([]), np.array([], dtype=bool)
    assert expected_calibration_error(*nothing) == 0
    assert calibration_error_interval(*nothing).high == 0
    assert {each.count for each in reliability(*nothing)} == {0}
