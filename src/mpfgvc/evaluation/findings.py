"""What follows from an evaluation: its mistakes, confused classes, and how right it is where it is sure.

All of it is about the source that the model answers with, and is computed once for the page and the tables
of a report.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mpfgvc.evaluation.metrics import Evaluation, SourceMetrics

POINTS = 200
"""Points of a curve of coverage at most."""
MOST_ORDERED = 1500
"""Classes that are ordered by likeness; the tree needs their square."""


class Judged(NamedTuple):
    """One photograph and what was said about it; classes by their index, probabilities in 0..1."""

    number: int
    """In the order of the answers."""
    path: str
    shown: str
    """The path from the root of the dataset."""
    true: int
    guess: int
    probability: float
    """Of the guess."""
    truth: float
    """Of the right class."""
    rank: int
    """Of the right class; 1 is the best."""

    @property
    def is_wrong(self) -> bool:
        """Whether it was taken for another class."""
        return self.true != self.guess


class ConfusedPair(NamedTuple):
    """Two classes that were taken for each other: `first` for `second`, and `second` for `first`."""

    first: int
    second: int
    first_as_second: int
    second_as_first: int

    @property
    def mistakes(self) -> int:
        """In both directions."""
        return self.first_as_second + self.second_as_first


class Covered(NamedTuple):
    """What is answered if the probability must be at least `threshold`; all three are in 0..1."""

    coverage: float
    accuracy: float
    threshold: float


@dataclass(frozen=True, kw_only=True)
class Findings:
    """An evaluation, and what follows from it for the source that answers."""

    evaluation: Evaluation
    judged: tuple[Judged, ...]
    """Every photograph, in the order of the answers."""
    wrong: tuple[Judged, ...]
    """The mistakes, the surest first."""
    pairs: tuple[ConfusedPair, ...]
    """Pairs of classes with a mistake between them, the most mistakes first."""

    @property
    def suspects(self) -> list[Judged]:
        """The photographs whose label may be wrong: mistakes, the least probable label first."""
        return sorted(self.wrong, key=lambda photo: (photo.truth, -photo.probability))


def find(evaluation: Evaluation, *, root: Path | None) -> Findings:
    """What the answers say, with paths from `root`."""
    metrics, answers = evaluation.main, evaluation.answers
    columns = (metrics.labels, metrics.guesses, metrics.probability, metrics.truth, metrics.ranks)
    rows = zip(answers.paths, answers.below(root).paths, *(column.tolist() for column in columns), strict=True)
    judged = tuple(Judged(number, *row) for number, row in enumerate(rows))
    wrong = (photo for photo in judged if photo.is_wrong)
    return Findings(
        evaluation=evaluation,
        judged=judged,
        wrong=tuple(sorted(wrong, key=lambda photo: -photo.probability)),
        pairs=tuple(confused_pairs(metrics)),
    )


def confused_pairs(metrics: SourceMetrics) -> list[ConfusedPair]:
    """All pairs of classes with a mistake between them, the most mistakes first."""
    counts = {(true, guess): count for true, guess, count in metrics.pairs if true != guess}
    both = {(min(pair), max(pair)) for pair in counts}
    pairs = [ConfusedPair(a, b, counts.get((a, b), 0), counts.get((b, a), 0)) for a, b in both]
    return sorted(pairs, key=lambda pair: (-pair.mistakes, pair))


def accuracy_by_coverage(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> list[Covered]:
    """How right a model is if it answers only where it is sure, from the surest answer to all of them.

    `confidence` is the probability of the answer. At a coverage c the answer is given for the share c of the
    photographs, and the accuracy is that of the answers given. Photographs of equal probability come and go
    together.
    """
    if not len(confidence):
        return []
    order = np.argsort(-confidence, kind="stable")
    sure, hits = confidence[order], np.cumsum(right[order])
    last_of_equal = np.append(np.flatnonzero(np.diff(sure)), len(sure) - 1)
    picked = last_of_equal[np.unique(np.linspace(0, len(last_of_equal) - 1, POINTS).round().astype(int))]
    return [
        Covered((last + 1) / len(sure), float(hits[last] / (last + 1)), float(sure[last])) for last in picked.tolist()
    ]


def at_coverage(curve: Sequence[Covered], share: float) -> Covered:
    """The point of a curve that answers at least this share."""
    return next((point for point in curve if point.coverage >= share), curve[-1])


def order_by_likeness(metrics: SourceMetrics) -> list[int]:
    """All classes in an order in which those that are taken for each other stand side by side.

    The likeness of two classes is the mean of two shares: how much of the one was taken for the other, and
    the reverse. Classes that were confused are clustered by it (average linkage) and laid out so that
    neighbours are as alike as the tree allows (Bar-Joseph et al., 2001). Classes without a mistake follow
    in their order; with more than MOST_ORDERED confused ones all do. Needs scipy.
    """
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    wrong = metrics.mistakes()
    confused = sorted({label for pair in wrong for label in (pair.true, pair.predicted)})
    others = [label for label in range(metrics.classes) if label not in set(confused)]
    if not 2 < len(confused) <= MOST_ORDERED:
        return [*confused, *others]
    number, totals = {label: row for row, label in enumerate(confused)}, np.maximum(metrics.totals(), 1)
    shares = np.zeros((len(confused), len(confused)))
    for true, guess, count in wrong:
        shares[number[true], number[guess]] = count / totals[true]
    distance = 1 - (shares + shares.T) / 2
    np.fill_diagonal(distance, 0)
    leaves = leaves_list(linkage(squareform(distance, checks=False), "average", optimal_ordering=True))
    return [*(confused[leaf] for leaf in leaves), *others]
