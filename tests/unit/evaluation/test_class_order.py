"""Classes that are confused stand together, and every class stands once."""

import numpy as np
import pytest

from mpfgvc.evaluation import class_order
from mpfgvc.evaluation.class_order import order_by_likeness
from mpfgvc.evaluation.metrics import Pair, SourceMetrics


def confused(groups: list[list[int]], classes: int) -> SourceMetrics:
    """Each class has 10 photographs right, and 3 taken for each other class of its group."""
    pairs = [Pair(label, label, 10) for label in range(classes)]
    pairs += [Pair(one, other, 3) for group in groups for one in group for other in group if one != other]
    return SourceMetrics(classes=classes, pairs=tuple(pairs), among_best=0)


@pytest.mark.parametrize("dense", [1500, 5])
def test_groups_stand_together_and_classes_without_mistakes_at_the_end(
    dense: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(class_order, "DENSE", dense)
    order = np.random.default_rng(0).permutation(20).tolist()
    groups = [order[:4], order[4:9], order[9:12]]
    found = order_by_likeness(confused(groups, 20))
    assert sorted(found) == list(range(20))
    for group in groups:
        places = sorted(found.index(label) for label in group)
        assert places == list(range(places[0], places[0] + len(group)))
    assert found[12:] == sorted(order[12:])


@pytest.mark.parametrize("groups", [[], [[2, 0]]])
def test_with_hardly_a_mistake_there_is_still_an_order(groups: list[list[int]]) -> None:
    found = order_by_likeness(confused(groups, 4))
    assert sorted(found) == [0, 1, 2, 3]
    assert found[:2] == ([0, 2] if groups else [0, 1])
