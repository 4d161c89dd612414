"""Hierarchical metrics are what a hand counts from the mistakes."""

from mpfgvc.data.taxonomy import Taxonomy
from mpfgvc.evaluation.hierarchical import hierarchical_metrics
from mpfgvc.evaluation.metrics import Pair

TREE = Taxonomy(levels=("genus", "family"), groups=(("A", "A", "B", "C"), ("F", "F", "F", "G")))


def test_accuracy_rises_with_the_level_and_mistakes_have_a_mean_distance() -> None:
    pairs = [Pair(0, 0, 5), Pair(0, 1, 2), Pair(2, 0, 1), Pair(3, 0, 1), Pair(3, 3, 1)]
    found = hierarchical_metrics(pairs, TREE)
    assert found.accuracy == {"class": 0.6, "genus": 0.8, "family": 0.9}
    assert found.mistake_distance == (2 * 1 + 1 * 2 + 1 * 3) / 4
    assert found.farthest == 3


def test_without_mistakes_there_is_no_distance() -> None:
    assert hierarchical_metrics([Pair(1, 1, 3)], TREE).mistake_distance is None
