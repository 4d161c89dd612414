"""Which labels are probably wrong, and which photographs are like no other: by probabilities and embeddings.

Probabilities must be out of fold: from a classifier that has not seen the photograph (out_of_fold.py).
Suspects are ranked by self-confidence, the probability of the label that is given. A photograph is a suspect
if another class gets at least the probability that photographs of that class get on average, so no threshold
has to be chosen: Northcutt, Jiang and Chuang, "Confident Learning", JAIR 2021.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

FAR = 6.0
"""An outlier is this many times farther from the median distance than the median photograph is."""
NEIGHBOURS = 5
_ROWS = 1024


@dataclass(frozen=True, kw_only=True)
class Suspect:
    """A photograph, by its place, whose label is probably wrong. Probabilities are 0..1."""

    place: int
    given: int
    guess: int
    self_confidence: float
    guess_confidence: float


def by_self_confidence(probabilities: Floats, labels: Integers) -> Integers:
    """All photographs, the least believable label first. `probabilities` (photographs, classes)"""
    return np.argsort(probabilities[np.arange(len(labels)), labels], kind="stable")


def label_suspects(probabilities: Floats, labels: Integers) -> list[Suspect]:
    """The photographs whose label is probably wrong, the worst first."""
    usual = _usual_confidence(probabilities, labels)
    beaten = np.where(probabilities >= usual, probabilities, 0.0)
    guesses = beaten.argmax(axis=1)
    confident = (beaten.max(axis=1) > 0) & (guesses != labels)
    return [
        Suspect(
            place=int(place),
            given=int(labels[place]),
            guess=int(guesses[place]),
            self_confidence=float(probabilities[place, labels[place]]),
            guess_confidence=float(probabilities[place, guesses[place]]),
        )
        for place in by_self_confidence(probabilities, labels)
        if confident[place]
    ]


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """The `NEIGHBOURS` most similar other photographs of each: their places and cosines."""

    places: Integers
    cosines: Floats

    def nearest_of(self, place: int, label: int, labels: Integers) -> int | None:
        """The nearest of these neighbours that has a label; None if none has."""
        return next((int(each) for each in self.places[place] if labels[each] == label), None)


def nearest_neighbours(embeddings: Floats) -> Neighbours:
    """Nearest photographs by cosine, in blocks of rows, so that memory stays bounded."""
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    units = (embeddings / np.maximum(lengths, 1e-12)).astype(np.float32)
    count = min(NEIGHBOURS, len(units) - 1)
    places = np.zeros((len(units), count), dtype=np.int64)
    cosines = np.zeros((len(units), count), dtype=np.float32)
    for start in range(0, len(units), _ROWS):
        block = units[start : start + _ROWS] @ units.T
        rows = np.arange(len(block))
        block[rows, rows + start] = -2
        best = np.argpartition(-block, count - 1, axis=1)[:, :count]
        order = np.argsort(-np.take_along_axis(block, best, axis=1), axis=1, kind="stable")
        places[start : start + len(block)] = np.take_along_axis(best, order, axis=1)
        cosines[start : start + len(block)] = np.take_along_axis(
            block, places[start : start + len(block)], axis=1
        )
    return Neighbours(places=places, cosines=cosines)


def outliers(neighbours: Neighbours) -> list[tuple[int, float]]:
    """Photographs far from even their nearest ones, and their mean distance 1 - cosine; farthest first."""
    distances = 1 - neighbours.cosines.mean(axis=1)
    middle = float(np.median(distances))
    spread = max(float(np.median(np.abs(distances - middle))), 1e-6)
    far = np.flatnonzero(distances > middle + FAR * spread)
    return [
        (int(place), float(distances[place])) for place in far[np.argsort(-distances[far], kind="stable")]
    ]


def found_early(ranking: Sequence[int] | Integers, wrong: Sequence[int], top: int) -> float:
    """The share of the wrong labels that is among the first `top` of a ranking."""
    return len(set(map(int, ranking[:top])) & set(wrong)) / len(wrong)


def _usual_confidence(probabilities: Floats, labels: Integers) -> Floats:
    """The mean probability of each class over the photographs with its label; above 1 without any."""
    classes = probabilities.shape[1]
    totals = np.bincount(labels, weights=probabilities[np.arange(len(labels)), labels], minlength=classes)
    counts = np.bincount(labels, minlength=classes)
    return np.where(counts > 0, totals / np.maximum(counts, 1), 2.0).astype(np.float32)
