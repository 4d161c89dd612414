"""What labelled photographs that a model did not learn from say about its probabilities; no torch.

    temperature   divides the logits before the softmax, so that of the answers given with 0.8 about 80 % are
                  right (Guo et al., "On Calibration of Modern Neural Networks", ICML 2017)
    `threshold`   answers at least this probable are wrong in at most the asked share (Jin and Candès,
                  "Selection by Prediction with Conformal p-values", JMLR 2023)
    `set_bound`   the classes at least this probable hold the right one in the asked share of photographs
                  (split conformal prediction; Vovk et al., 2005, with the score of Sadinle et al., JASA 2019)

Both promises are about photographs like those that were used, on average over many such samples. Each is
kept for any share asked later, so the probabilities of the photographs are stored: some kilobytes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mpfgvc.errors import ConfigError
from mpfgvc.terms import Source

UNREACHABLE = math.inf
"""A threshold that no probability reaches: nothing would be right often enough."""
FEWEST = 2
"""Photographs that can say anything about others."""


@dataclass(frozen=True, kw_only=True)
class LevelScores:
    """For each photograph, how probable the best group of a level was, and whether it was the right one."""

    level: str
    """class, or a level of the taxonomy."""
    confidence: tuple[float, ...]
    right: tuple[bool, ...]

    def __post_init__(self) -> None:
        if len(self.confidence) != len(self.right) or len(self.right) < FEWEST:
            raise ConfigError(f"calibration of the level {self.level} must have as many answers as probabilities")
        _check_probabilities(self.confidence)


@dataclass(frozen=True, kw_only=True)
class SourceCalibration:
    """The calibration of one source of logits; all fields have the same photographs in the same order."""

    source: Source
    temperature: float
    truth: tuple[float, ...]
    """The probability of the right class of each photograph."""
    levels: tuple[LevelScores, ...]
    """The classes first, then the levels of the taxonomy, finest first, if there is one."""

    def __post_init__(self) -> None:
        if not (0 < self.temperature < math.inf):
            raise ConfigError(f"calibration temperature must be above 0, got {self.temperature}")
        if not self.levels or any(len(each.right) != len(self.truth) for each in self.levels):
            raise ConfigError("calibration must have every photograph at each level")
        _check_probabilities(self.truth)

    def thresholds(self, risk: float, *, back_off: bool = False) -> tuple[float, ...]:
        """The least probability of an answer at each level so that at most `risk` of the answers are wrong.

        One for the classes; with `back_off`, one for each level, of the photographs that got no answer below.
        """
        left = np.ones(len(self.truth), dtype=bool)
        found = []
        for scores in self.levels if back_off else self.levels[:1]:
            confidence, right = np.array(scores.confidence), np.array(scores.right)
            found.append(threshold(confidence[left], right[left], risk))
            left &= confidence < found[-1]
        return tuple(found)

    def set_bound(self, share: float) -> float:
        """The least probability of a class in a set that holds the right one in `share` of the cases.

        0, for all classes, if there are too few photographs for so large a share.
        """
        count = len(self.truth)
        rank = math.ceil((count + 1) * share)  # of the scores 1 - p, ascending
        return 0.0 if rank > count else float(np.sort(self.truth)[::-1][rank - 1])


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What a model stores: where its photographs came from, and what they say about each source."""

    photographs: str
    """Such as `validation split`."""
    sources: tuple[SourceCalibration, ...]

    def of(self, source: Source) -> SourceCalibration | None:
        """The calibration of a source, None if there is none."""
        return next((each for each in self.sources if each.source == source), None)

    def temperature_of(self, source: Source) -> float:
        """The temperature of a source; 1 if it has no calibration."""
        found = self.of(source)
        return 1.0 if found is None else found.temperature


def threshold(confidence: NDArray[np.float64], right: NDArray[np.bool_], risk: float) -> float:
    """The smallest t such that, of the answers with confidence >= t, at most `risk` are wrong.

    For t: (1 + wrong) / (n + 1) over answered / n, as the conformal p-value counts the new photograph
    as one of the wrong ones. `UNREACHABLE` where no t will do.
    """
    order = np.argsort(-confidence, kind="stable")
    ranked, wrong = confidence[order], np.cumsum(~right[order])
    count = len(ranked)
    answered = np.arange(1, count + 1)
    kept = (1 + wrong) / (count + 1) <= risk * answered / max(1, count)
    last_of_equals = np.append(ranked[1:] != ranked[:-1], True) if count else np.zeros(0, dtype=bool)
    found = np.flatnonzero(kept & last_of_equals)
    return float(ranked[found[-1]]) if len(found) else UNREACHABLE


def softmax(logits: NDArray[np.floating], temperature: float = 1.0) -> NDArray[np.float64]:
    """The probabilities of each row of logits over a temperature, in float64. (batch, classes)"""
    scaled = logits.astype(np.float64) / temperature
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    shares: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return shares


def _check_probabilities(values: Sequence[float]) -> None:
    if not all(0 <= value <= 1 for value in values):
        raise ConfigError("calibration must hold probabilities between 0 and 1")
