"""All that a report says about an evaluation, computed once for its page and its tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpfgvc.evaluation.answers import Answers
from mpfgvc.evaluation.calibration import BINS, CalibrationError, error_with_interval, reliability
from mpfgvc.evaluation.class_order import order_by_likeness
from mpfgvc.evaluation.coverage import Covered, accuracy_by_coverage
from mpfgvc.evaluation.learning import Learning
from mpfgvc.evaluation.metrics import Evaluation
from mpfgvc.evaluation.mistakes import (
    ConfusedPair,
    Judged,
    confused_pairs,
    judged_photos,
    suspects,
    wrong_photos,
)
from mpfgvc.evaluation.statistics import Interval, accuracy_interval


@dataclass(frozen=True, kw_only=True)
class ShownBin:
    """The answers whose probability is from `low` to `high`. All but `count` are in 0..1."""

    low: float
    high: float
    count: int
    confidence: float
    """Their mean probability."""
    accuracy: float


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """How far the probabilities of the answers are from the share that is right."""

    error: CalibrationError
    bins: tuple[ShownBin, ...]
    """Those that are not empty."""
    coverage: tuple[Covered, ...]


@dataclass(frozen=True, kw_only=True)
class Findings:
    """An evaluation, and what follows from it photograph by photograph for the source that answers."""

    evaluation: Evaluation
    source: str
    shown: tuple[str, ...]
    """The paths as a report names them, in the order of the answers."""
    judged: tuple[Judged, ...]
    wrong: tuple[Judged, ...]
    suspects: tuple[Judged, ...]
    pairs: tuple[ConfusedPair, ...]
    learning: Learning


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """What of a report needs scipy."""

    intervals: Mapping[str, Interval]
    """Of the accuracy of each source."""
    orders: Mapping[str, list[int]]
    """The classes sorted by likeness, by source."""
    calibration: Reliability

    def to_dict(self) -> dict[str, Any]:
        """What `report.json` adds to the document of the evaluation."""
        error = self.calibration.error
        return {
            "intervals": {name: vars(interval) for name, interval in self.intervals.items()},
            "calibration_error": {"value": error.value, **vars(error.interval)},
        }


def find(evaluation: Evaluation, *, root: Path | None, learning: Learning) -> Findings | None:
    """What the answers say, with paths from `root`; None if the evaluation kept no certainty."""
    answers, source = evaluation.answers, evaluation.main_source
    if answers is None or source not in answers.certainty:
        return None
    judged = judged_photos(answers, source, evaluation.classes)
    return Findings(
        evaluation=evaluation,
        source=source,
        shown=answers.below(root).paths,
        judged=tuple(judged),
        wrong=tuple(wrong_photos(judged)),
        suspects=tuple(suspects(judged)),
        pairs=tuple(confused_pairs(judged)),
        learning=learning,
    )


def statistics_of(findings: Findings, answers: Answers) -> Statistics:
    """Intervals, orders and calibration. Raises ConfigError if scipy is not installed."""
    once = np.ones(len(answers.paths), dtype=np.int64)
    return Statistics(
        intervals={
            source: accuracy_interval(answers.right(source).astype(np.int64), once)
            for source in answers.predicted
        },
        orders={
            source: order_by_likeness(metrics) for source, metrics in findings.evaluation.sources.items()
        },
        calibration=_calibration(
            np.array([each.probability for each in findings.judged]),
            np.array([not each.is_wrong for each in findings.judged]),
        ),
    )


def _calibration(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> Reliability:
    return Reliability(
        error=error_with_interval(confidence, right),
        bins=tuple(
            _shown(each.count, float(each.confidence), float(each.accuracy))
            for each in reliability(confidence, right)
        ),
        coverage=tuple(accuracy_by_coverage(confidence, right)),
    )


def _shown(count: int, confidence: float, accuracy: float) -> ShownBin:
    """A bin with its edges; its mean confidence lies between them."""
    place = min(int(confidence * BINS), BINS - 1)
    edges = place / BINS, (place + 1) / BINS
    return ShownBin(low=edges[0], high=edges[1], count=count, confidence=confidence, accuracy=accuracy)
