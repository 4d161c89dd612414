"""Recall@k: how often the k photographs that are nearest to one hold another of its class.

The measure of metric learning (Oh Song et al., CVPR 2016): every photograph searches among all others of
its split, by the cosine of embeddings. One that is the only one of its class finds none, and counts.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mpfgvc.inference.search import unit_rows

QUERIES_AT_ONCE = 1024
"""Rows of the matrix of similarities that are in memory at a time."""


def recall_at(
    values: NDArray[np.float32], labels: NDArray[np.int64], counts: Sequence[int]
) -> dict[int, float]:
    """The share of photographs, 0..1, with one of their class among the k nearest, for each k of `counts`.

    `values` is (photographs, width). With fewer than k other photographs, all of them are looked at.
    """
    unit, most = unit_rows(values), min(max(counts), len(values) - 1)
    found = np.zeros((len(values), max(most, 0)), dtype=bool)
    for start in range(0, len(values), QUERIES_AT_ONCE):
        rows = np.arange(start, min(start + QUERIES_AT_ONCE, len(values)))
        similarities = unit[rows] @ unit.T
        similarities[np.arange(len(rows)), rows] = -np.inf
        nearest = np.argsort(-similarities, axis=1, kind="stable")[:, :most]
        found[rows] = labels[nearest] == labels[rows, None]
    return {count: float(found[:, :count].any(axis=1).mean()) for count in counts}
