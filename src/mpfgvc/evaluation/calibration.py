"""Do probabilities mean something? Fit a temperature, and measure how far confidence and accuracy differ.

    temperature   the T that minimises the mean of -log softmax(logits / T)[label] (Guo et al., ICML 2017);
                  labels are smoothed by 1 / (photographs + 2), so that a few photographs that are all right
                  do not make it 0 (Platt, 1999)
    ECE           sum over bins of |accuracy - mean confidence|, weighed by the photographs in the bin
                  (Naeini et al., AAAI 2015), with bins of equal width over 0..1

The confidence is the probability of the best class. With few photographs the ECE of a perfect model is
above zero, too; so it comes with an interval.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mpfgvc.config import Source
from mpfgvc.data.taxonomy import CLASS, Taxonomy
from mpfgvc.evaluation.statistics import CONFIDENCE, Interval
from mpfgvc.inference.calibration import Calibration, LevelScores, SourceCalibration, softmax

BINS = 15
COLDEST, HOTTEST = 0.02, 50.0
"""Between these a temperature is looked for."""
_HALVINGS = 60
_RESAMPLES = 2000
_DIGITS = 6
"""Of a stored probability."""


@dataclass(frozen=True)
class Bin:
    """Answers whose confidence is in a range: how many, how sure, how often right."""

    count: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, kw_only=True)
class CalibrationError:
    """An expected calibration error and its interval (95 %, percentiles of a bootstrap over photographs)."""

    value: float
    interval: Interval


def calibration_of(
    logits: Mapping[Source, NDArray[np.floating]],
    labels: NDArray[np.int64],
    *,
    taxonomy: Taxonomy | None,
    photographs: str,
) -> Calibration:
    """What labelled photographs say about each source; `photographs` says which they are.

    Logits are (photographs, classes).
    """
    fitted = {source: fit_temperature(rows, labels) for source, rows in logits.items()}
    return Calibration(
        photographs=photographs,
        sources=tuple(
            _source(source, softmax(rows, fitted[source]), labels, fitted[source], taxonomy)
            for source, rows in logits.items()
        ),
    )


def fit_temperature(logits: NDArray[np.floating], labels: NDArray[np.int64]) -> float:
    """The temperature with the smallest mean negative log-likelihood, between COLDEST and HOTTEST.

    The loss is convex in 1 / T, and its derivative is the mean of (expected logit - logit of the smoothed
    label); so its zero is found by halving.
    """
    rows = logits.astype(np.float64)
    doubt = 1 / (len(labels) + 2)
    of_label = (1 - doubt) * rows[np.arange(len(labels)), labels].mean() + doubt * rows.mean()
    low, high = 1 / HOTTEST, 1 / COLDEST
    for _ in range(_HALVINGS):
        middle = np.sqrt(low * high)
        expected = (softmax(rows, 1 / middle) * rows).sum(axis=1).mean()
        low, high = (middle, high) if expected < of_label else (low, middle)
    return float(1 / np.sqrt(low * high))


def expected_calibration_error(
    confidence: NDArray[np.float64], right: NDArray[np.bool_], bins: int = BINS
) -> float:
    """The ECE of answers with these confidences, 0..1; 0 without answers."""
    whole = max(1, len(confidence))
    return sum(
        each.count / whole * abs(each.accuracy - each.confidence)
        for each in reliability(confidence, right, bins)
    )


def error_with_interval(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> CalibrationError:
    """The ECE with its interval. The same data give the same interval."""
    generator, count = np.random.default_rng(0), len(confidence)
    resampled = [
        expected_calibration_error(confidence[chosen], right[chosen])
        for chosen in (generator.integers(count, size=count) for _ in range(_RESAMPLES))
    ]
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(resampled, [tail, 100 - tail])
    value = expected_calibration_error(confidence, right)
    return CalibrationError(value=value, interval=Interval(float(low), float(high)))


def reliability(confidence: NDArray[np.float64], right: NDArray[np.bool_], bins: int = BINS) -> list[Bin]:
    """The answers by confidence, in bins of equal width; the empty ones are left out."""
    places = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    counts = np.bincount(places, minlength=bins)
    sure = np.bincount(places, weights=confidence, minlength=bins)
    true = np.bincount(places, weights=right.astype(np.float64), minlength=bins)
    return [
        Bin(
            count=int(counts[place]),
            confidence=sure[place] / counts[place],
            accuracy=true[place] / counts[place],
        )
        for place in np.flatnonzero(counts)
    ]


def _source(
    source: Source,
    probabilities: NDArray[np.float64],
    labels: NDArray[np.int64],
    temperature: float,
    taxonomy: Taxonomy | None,
) -> SourceCalibration:
    levels = [_level(CLASS, probabilities, labels)]
    if taxonomy is not None:
        for place, name in enumerate(taxonomy.levels):
            groups, truth = taxonomy.probabilities(place, probabilities), taxonomy.members(place)[labels]
            levels.append(_level(name, groups, truth))
    of_label = probabilities[np.arange(len(labels)), labels]
    return SourceCalibration(
        source=source, temperature=temperature, truth=_stored(of_label), levels=tuple(levels)
    )


def _level(name: str, probabilities: NDArray[np.float64], truth: NDArray[np.int64]) -> LevelScores:
    right = probabilities.argmax(axis=1) == truth
    return LevelScores(level=name, confidence=_stored(probabilities.max(axis=1)), right=tuple(right.tolist()))


def _stored(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(np.clip(np.round(values, _DIGITS), 0.0, 1.0).tolist())
