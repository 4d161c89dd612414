"""Accuracy against coverage: how right a model is if it answers only where it is sure.

Photographs are answered from the surest on. At a coverage c the answer is given for the share c of them, and
the accuracy is that of the answers given. Photographs of equal probability come and go together.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

POINTS = 200
"""Points of a curve at most."""


@dataclass(frozen=True)
class Covered:
    """What is answered if the probability must be at least `threshold`; all three are in 0..1."""

    coverage: float
    accuracy: float
    threshold: float


def accuracy_by_coverage(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> list[Covered]:
    """The curve from the surest answers to all of them; `confidence` is the probability of the answer."""
    if not len(confidence):
        return []
    order = np.argsort(-confidence, kind="stable")
    sure, hits = confidence[order], np.cumsum(right[order])
    last_of_equal = np.append(np.flatnonzero(np.diff(sure)), len(sure) - 1)
    picked = last_of_equal[np.unique(np.linspace(0, len(last_of_equal) - 1, POINTS).round().astype(int))]
    return [
        Covered((place + 1) / len(sure), float(hits[place] / (place + 1)), float(sure[place]))
        for place in picked.tolist()
    ]


def at_coverage(curve: Sequence[Covered], share: float) -> Covered:
    """The point of a curve that answers at least this share."""
    return next((point for point in curve if point.coverage >= share), curve[-1])
