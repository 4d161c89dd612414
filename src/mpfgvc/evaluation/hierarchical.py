"""How far mistakes are from the truth in a taxonomy: accuracies of its levels, and distances.

All follows from the pairs (true class, predicted class) that an evaluation counts, so it costs nothing more.
A prediction is right at a level if it is in the group of the right class. The distance of a mistake is the
number of levels up to where the two classes meet (data/taxonomy.py).
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from mpfgvc.data.taxonomy import CLASS, Taxonomy
from mpfgvc.evaluation.metrics import Evaluation, Pair


@dataclass(frozen=True, kw_only=True)
class HierarchicalMetrics:
    """Accuracy by level, 0..1, finest first, and the mean distance of the mistakes (None without any)."""

    accuracy: dict[str, float]
    mistake_distance: float | None
    farthest: int
    """The distance of classes that never meet."""

    def to_dict(self) -> dict[str, Any]:
        """A part of the document of `mpfgvc evaluate --json`."""
        return {
            "accuracy": self.accuracy,
            "mistake_distance": self.mistake_distance,
            "farthest": self.farthest,
        }


def with_hierarchy(evaluation: Evaluation, taxonomy: Taxonomy | None) -> Evaluation:
    """The evaluation with the hierarchical metrics of its answers, if there is a taxonomy."""
    if taxonomy is None:
        return evaluation
    return replace(evaluation, hierarchy=hierarchical_metrics(evaluation.main.pairs, taxonomy))


def hierarchical_metrics(pairs: Iterable[Pair], taxonomy: Taxonomy) -> HierarchicalMetrics:
    """The metrics of these pairs."""
    by_distance = [0] * (len(taxonomy.levels) + 2)
    for pair in pairs:
        by_distance[taxonomy.distance(pair.true, pair.predicted)] += pair.count
    whole, wrong = max(1, sum(by_distance)), sum(by_distance[1:])
    accuracy = {
        level: sum(by_distance[: place + 1]) / whole for place, level in enumerate((CLASS, *taxonomy.levels))
    }
    far = sum(distance * count for distance, count in enumerate(by_distance))
    return HierarchicalMetrics(
        accuracy=accuracy,
        mistake_distance=far / wrong if wrong else None,
        farthest=len(taxonomy.levels) + 1,
    )
