"""How sure an accuracy is, and whether two models differ, by the photographs that they were tested on.

The unit is the photograph: a model is trained with several seeds, and a photograph counts as often as it was
tested. `seen` is that number for each photograph, `right` how often the model was right; the accuracy is
sum(right) / sum(seen). With one test split all photographs have the same weight; where a split is drawn by
the seed, a photograph may be in the test of some seeds only.

Intervals: bootstrap over photographs, BCa (Efron, 1987). Two models: the same of their difference, and the
sign-flip test (Fisher): under the null hypothesis each photograph's difference could have had either sign.
With one seed that is McNemar's exact test. Needs scipy, the extra `compare`.

The expected calibration error (Naeini et al., AAAI 2015) says how far probabilities are from accuracies:

    ECE = sum over bins of |accuracy - mean confidence|, weighed by the photographs in the bin

with bins of equal width over 0..1. The confidence is the probability of the best class. With few photographs
the ECE of a perfect model is above zero, too; so it comes with an interval. It needs no scipy.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mpfgvc.errors import ConfigError

CONFIDENCE = 0.95
RESAMPLES = 9999
MANY = 5000
"""Photographs above which an accuracy of one test is not resampled: its bootstrap is a binomial."""
BINS = 15
_ECE_RESAMPLES = 2000
_AT_ONCE = 10**7
"""Numbers that a batch of resamples may hold."""


@dataclass(frozen=True)
class Interval:
    """A confidence interval of 95 %."""

    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Difference:
    """An accuracy minus that of a reference, on the same photographs; `p_value` is two-sided."""

    mean: float
    interval: Interval
    p_value: float


class Bin(NamedTuple):
    """The answers whose confidence is from `low` to `high`: how many, how sure, how often right; in 0..1."""

    low: float
    high: float
    photographs: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, kw_only=True)
class CalibrationError:
    """An expected calibration error and its interval (95 %, percentiles of a bootstrap over photographs)."""

    value: float
    interval: Interval

    def to_dict(self) -> dict[str, Any]:
        """A part of the document of `mpfgvc calibrate --json`."""
        return {"value": self.value, "interval": [self.interval.low, self.interval.high]}


def accuracy_interval(right: NDArray[np.int64], seen: NDArray[np.int64]) -> Interval:
    """The interval of sum(right) / sum(seen). The same data give the same interval.

    Where all are right or all are wrong there is nothing to resample: then it is Clopper and Pearson's.
    """
    if (share := right.sum() / seen.sum()) in (0.0, 1.0):
        low, high = _stats().binomtest(int(share) * len(seen), len(seen)).proportion_ci()
        return Interval(float(low), float(high))
    if len(seen) > MANY and (seen == 1).all():
        return _share_interval(int(right.sum()), len(seen))
    return _interval(right, seen)


def paired_difference(right: NDArray[np.int64], reference: NDArray[np.int64], seen: NDArray[np.int64]) -> Difference:
    """How a model differs from a reference that saw the same photographs equally often."""
    differences = right - reference
    return Difference(
        mean=float(differences.sum() / seen.sum()),
        interval=_interval(differences, seen),
        p_value=_sign_flip_test(differences[differences != 0]),
    )


def expected_calibration_error(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    """The ECE of answers with these confidences, 0..1; 0 without answers."""
    bins = reliability(confidence, right)
    return sum(part.photographs * abs(part.accuracy - part.confidence) for part in bins) / max(1, len(confidence))


def error_with_interval(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> CalibrationError:
    """The ECE with its interval. The same data give the same interval."""
    generator, count = np.random.default_rng(0), len(confidence)
    resampled = [
        expected_calibration_error(confidence[chosen], right[chosen])
        for chosen in (generator.integers(count, size=count) for _ in range(_ECE_RESAMPLES))
    ]
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(resampled, [tail, 100 - tail])
    value = expected_calibration_error(confidence, right)
    return CalibrationError(value=value, interval=Interval(float(low), float(high)))


def reliability(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> list[Bin]:
    """The answers by confidence, in BINS bins of equal width; the empty ones are left out."""
    numbers = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    counts = np.bincount(numbers, minlength=BINS)
    sure, true = (np.bincount(numbers, weights=each, minlength=BINS) for each in (confidence, right))
    return [
        Bin(k / BINS, (k + 1) / BINS, int(counts[k]), float(sure[k] / counts[k]), float(true[k] / counts[k]))
        for k in np.flatnonzero(counts).tolist()
    ]


def refuse_missing_scipy() -> None:
    """Raise ConfigError if scipy is not installed, before anything is trained in vain."""
    _stats()


def _interval(values: NDArray[np.int64], seen: NDArray[np.int64]) -> Interval:
    """The bootstrap interval of sum(values) / sum(seen) over photographs."""
    if (values * seen[0] == values[0] * seen).all():  # every resample is the same
        point = float(values.sum() / seen.sum())
        return Interval(point, point)
    low, high = _bootstrap(values, seen, "BCa")
    if not (np.isfinite(low) and np.isfinite(high)):  # too few photographs to correct for bias
        low, high = _bootstrap(values, seen, "percentile")
    return Interval(float(low), float(high))


def _share_interval(right: int, count: int) -> Interval:
    """The BCa interval of right / count as it is for infinitely many resamples; in constant time."""
    share = right / count
    stats = _stats()
    resampled = stats.binom(count, share)
    bias = stats.norm.ppf((resampled.cdf(right - 1) + resampled.cdf(right)) / 2)
    skew = (1 - 2 * share) / (6 * np.sqrt(count * share * (1 - share)))
    tails = bias + stats.norm.ppf([(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    low, high = resampled.ppf(stats.norm.cdf(bias + tails / (1 - skew * tails))) / count
    return Interval(float(low), float(high))


def _bootstrap(values: NDArray[np.int64], seen: NDArray[np.int64], method: str) -> tuple[float, float]:
    found = _stats().bootstrap(
        (values, seen),
        _ratio,
        n_resamples=RESAMPLES,
        batch=max(1, _AT_ONCE // len(values)),
        paired=True,
        vectorized=True,
        confidence_level=CONFIDENCE,
        method=method,
        rng=np.random.default_rng(0),
    )
    return found.confidence_interval.low, found.confidence_interval.high


def _ratio(values: NDArray[np.int64], seen: NDArray[np.int64], axis: int = -1) -> NDArray[np.float64]:
    ratio: NDArray[np.float64] = values.sum(axis=axis) / seen.sum(axis=axis)
    return ratio


def _sign_flip_test(differences: NDArray[np.int64]) -> float:
    """The p-value of differences none of which is 0; zeros have no sign to flip."""
    if len(differences) < 2:
        return 1.0  # a single one is as large with either sign
    found = _stats().permutation_test(
        (differences,),
        np.sum,
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=max(1, _AT_ONCE // len(differences)),
        rng=np.random.default_rng(0),
    )
    return float(found.pvalue)


def _stats() -> Any:
    try:
        from scipy import stats
    except ImportError:
        raise ConfigError("intervals need scipy: pip install 'mpfgvc[compare]'") from None
    return stats
