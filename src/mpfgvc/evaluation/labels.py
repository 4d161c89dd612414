"""Which labels are probably wrong, and which photographs are like no other: by probabilities and embeddings.

Probabilities must be out of fold: from a classifier that has not seen the photograph (training/labels.py).
Suspects are ranked by self-confidence, the probability of the label that is given. A photograph is a suspect
if another class gets at least the probability that photographs of that class get on average, so no threshold
has to be chosen: Northcutt, Jiang and Chuang, "Confident Learning", JAIR 2021.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mpfgvc.inference.embeddings import largest, unit_rows

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

FAR = 6.0
"""An outlier is this many times farther from the median distance than the median photograph is."""
_ROWS = 1024


@dataclass(frozen=True, kw_only=True)
class Suspect:
    """A photograph, by its index, whose label is probably wrong. Probabilities are 0..1."""

    index: int
    given: int
    guess: int
    self_confidence: float
    guess_confidence: float


def by_self_confidence(probabilities: Floats, labels: Integers) -> Integers:
    """All photographs, the least believable label first. `probabilities` (photographs, classes)"""
    return np.argsort(probabilities[np.arange(len(labels)), labels], kind="stable")


def label_suspects(probabilities: Floats, labels: Integers) -> list[Suspect]:
    """The photographs whose label is probably wrong, the worst first."""
    own, classes = probabilities[np.arange(len(labels)), labels], probabilities.shape[1]
    counts = np.bincount(labels, minlength=classes)
    means = np.bincount(labels, weights=own, minlength=classes) / np.maximum(counts, 1)
    usual = np.where(counts > 0, means, 2.0).astype(np.float32)  # a class without photographs is never the guess
    beaten = np.where(probabilities >= usual, probabilities, 0.0)
    guesses = beaten.argmax(axis=1)
    return [
        Suspect(
            index=int(index),
            given=int(labels[index]),
            guess=int(guesses[index]),
            self_confidence=float(own[index]),
            guess_confidence=float(probabilities[index, guesses[index]]),
        )
        for index in by_self_confidence(probabilities, labels)
        if beaten[index].max() > 0 and guesses[index] != labels[index]
    ]


def nearest_others(embeddings: Floats, count: int) -> tuple[Integers, Floats]:
    """The `count` other photographs that are nearest to each by cosine, nearest first: indices and cosines.

    Both are (photographs, count), with fewer columns where there are fewer others. Works in blocks of rows,
    so memory stays bounded.
    """
    unit = unit_rows(embeddings)
    count = max(0, min(count, len(unit) - 1))
    indices, cosines = np.zeros((len(unit), count), np.int64), np.zeros((len(unit), count), np.float32)
    for start in range(0, len(unit) if count else 0, _ROWS):
        block = unit[start : start + _ROWS] @ unit.T
        rows = np.arange(len(block))
        block[rows, rows + start] = -2
        best = np.stack([largest(row, count) for row in block])
        indices[start : start + _ROWS] = best
        cosines[start : start + _ROWS] = np.take_along_axis(block, best, axis=1)
    return indices, cosines


def outliers(cosines: Floats) -> list[tuple[int, float]]:
    """Photographs far from even their nearest ones, and their mean distance 1 - cosine; farthest first."""
    distances = 1 - cosines.mean(axis=1)
    middle = float(np.median(distances))
    spread = max(float(np.median(np.abs(distances - middle))), 1e-6)
    order = np.argsort(-distances, kind="stable")
    return [(int(index), float(distances[index])) for index in order if distances[index] > middle + FAR * spread]
