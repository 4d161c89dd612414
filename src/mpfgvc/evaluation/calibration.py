"""Whether a probability means what it says: of the answers given with 80 %, 80 % should be right.

Answers are sorted into bins of equal width by the probability of the answer (confidence). With n_b of n
photographs in bin b, its accuracy a_b and its mean confidence c_b (Naeini et al., AAAI 2015):

    ECE = sum_b  n_b / n * |a_b - c_b|
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mpfgvc.evaluation.statistics import CONFIDENCE, Interval

BINS = 15
RESAMPLES = 2000


@dataclass(frozen=True)
class Bin:
    """The photographs whose confidence is above `low` and at most `high`. All but `count` are in 0..1."""

    low: float
    high: float
    count: int
    confidence: float
    """Their mean confidence; 0 without photographs."""
    accuracy: float


def expected_calibration_error(
    confidence: NDArray[np.float64], right: NDArray[np.bool_], bins: int = BINS
) -> float:
    """The ECE of some answers, 0..1: the mean distance of accuracy and confidence. 0 without answers."""
    if not len(confidence):
        return 0.0
    return float(np.abs(_gaps(confidence, right, _bin_of(confidence, bins), bins)).sum() / len(confidence))


def calibration_error_interval(
    confidence: NDArray[np.float64], right: NDArray[np.bool_], bins: int = BINS
) -> Interval:
    """The 95 % interval of the ECE: pivotal bootstrap over photographs, never below 0.

    Resampling adds noise to each bin and so raises the ECE; the pivotal interval takes that rise off.
    """
    point, count = expected_calibration_error(confidence, right, bins), len(confidence)
    if not count:
        return Interval(0.0, 0.0)
    places, draw, found = _bin_of(confidence, bins), np.random.default_rng(0), np.empty(RESAMPLES)
    for number in range(RESAMPLES):
        chosen = draw.integers(0, count, count)
        gaps = _gaps(confidence[chosen], right[chosen], places[chosen], bins)
        found[number] = np.abs(gaps).sum() / count
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(found, [tail, 1 - tail])
    return Interval(max(0.0, float(2 * point - high)), max(0.0, float(2 * point - low)))


def reliability(confidence: NDArray[np.float64], right: NDArray[np.bool_], bins: int = BINS) -> list[Bin]:
    """What a reliability diagram shows: every bin from 0 to 1, those without photographs, too."""
    places = _bin_of(confidence, bins)
    counts = np.bincount(places, minlength=bins)
    divisor = np.maximum(counts, 1)
    sure = np.bincount(places, weights=confidence, minlength=bins) / divisor
    accurate = np.bincount(places, weights=right, minlength=bins) / divisor
    rows = zip(counts.tolist(), sure.tolist(), accurate.tolist(), strict=True)
    return [Bin(place / bins, (place + 1) / bins, *row) for place, row in enumerate(rows)]


def _bin_of(confidence: NDArray[np.float64], bins: int) -> NDArray[np.int64]:
    """The bin of each answer; a confidence on an edge belongs to the bin below it."""
    places: NDArray[np.int64] = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    return places


def _gaps(
    confidence: NDArray[np.float64], right: NDArray[np.bool_], places: NDArray[np.int64], bins: int
) -> NDArray[np.float64]:
    """Right answers minus summed confidence, in each bin."""
    return np.asarray(np.bincount(places, weights=right - confidence, minlength=bins), dtype=np.float64)
