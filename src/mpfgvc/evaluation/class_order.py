"""An order of the classes in which those that are taken for each other stand side by side.

The likeness of two classes is the mean of two shares: how much of the one was taken for the other, and the
reverse. Classes that were confused are clustered by it (average linkage) and laid out so that neighbours are
as alike as the tree allows (Bar-Joseph et al., 2001). Above DENSE of them a matrix of all pairs would be too
large: then reverse Cuthill-McKee orders the sparse graph. Classes without a mistake follow in their order.
Needs scipy, the extra `compare`.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpfgvc.evaluation.metrics import SourceMetrics

DENSE = 1500
"""Classes that are clustered; the tree needs their square."""


def order_by_likeness(metrics: SourceMetrics) -> list[int]:
    """All classes of a confusion matrix, as their indices."""
    likeness = _likeness(metrics)
    confused = np.unique(likeness.nonzero()[0])
    if len(confused) < 3:
        return [*confused.tolist(), *_others(confused, metrics.classes)]
    among = likeness[confused][:, confused]
    order = _tree_order(among.toarray()) if len(confused) <= DENSE else _band_order(among)
    return [*confused[order].tolist(), *_others(confused, metrics.classes)]


def _likeness(metrics: SourceMetrics) -> Any:
    """A sparse symmetric matrix (classes, classes) in 0..1, without a diagonal."""
    from scipy.sparse import coo_array

    wrong = [pair for pair in metrics.pairs if pair.true != pair.predicted]
    totals = np.maximum(metrics.totals(), 1)
    shares = [pair.count / totals[pair.true] for pair in wrong]
    places = ([pair.true for pair in wrong], [pair.predicted for pair in wrong])
    one_way = coo_array((shares, places), shape=(metrics.classes, metrics.classes)).tocsr()
    return ((one_way + one_way.T) / 2).tocsr()


def _tree_order(likeness: NDArray[np.float64]) -> NDArray[np.int64]:
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    distance = 1 - likeness
    np.fill_diagonal(distance, 0)
    leaves: NDArray[np.int64] = leaves_list(
        linkage(squareform(distance, checks=False), "average", optimal_ordering=True)
    )
    return leaves


def _band_order(likeness: Any) -> NDArray[np.int64]:
    from scipy.sparse.csgraph import reverse_cuthill_mckee

    order: NDArray[np.int64] = reverse_cuthill_mckee(likeness, symmetric_mode=True)
    return order


def _others(some: NDArray[np.int64], classes: int) -> list[int]:
    found = set(some.tolist())
    return [label for label in range(classes) if label not in found]
