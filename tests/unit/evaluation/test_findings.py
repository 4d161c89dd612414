"""Mistakes, confused pairs, coverage and the order of classes, by hand."""

import numpy as np
import pytest
from tests.made_answers import metrics_of

from mpfgvc.evaluation.findings import POINTS, accuracy_by_coverage, at_coverage, find, order_by_likeness
from mpfgvc.evaluation.metrics import Answers, Evaluation, SourceMetrics

ROWS = np.array([(0, 1, 0.9, 0.9), (1, 2, 0.6, 0.3), (0, 3, 0.7, 0.01), (1, 2, 0.95, 0.04), (0, 2, 0.5, 0.4)])
METRICS = SourceMetrics.of(ROWS, np.array([0, 0, 1, 2, 1]), 3)
ANSWERS = Answers(paths=tuple("12345"), classes=("auk", "tern", "wren"), sources={"fusion": METRICS})
FINDINGS = find(Evaluation(split="test", answers=ANSWERS), root=None)


def test_mistakes_come_surest_first_and_suspects_by_the_doubt_about_their_label() -> None:
    assert [each.path for each in FINDINGS.wrong] == ["4", "3", "2", "5"]
    assert [each.path for each in FINDINGS.suspects] == ["3", "4", "2", "5"]


def test_a_pair_counts_both_directions() -> None:
    assert FINDINGS.pairs == ((0, 1, 1, 2), (1, 2, 0, 1))
    assert FINDINGS.pairs[0].mistakes == 3


def test_the_surest_answers_come_first_and_equal_ones_come_together() -> None:
    confidence = np.array([0.5, 0.9, 0.5, 0.8])
    right = np.array([False, True, True, True])
    assert accuracy_by_coverage(confidence, right) == [(0.25, 1.0, 0.9), (0.5, 1.0, 0.8), (1.0, 0.75, 0.5)]


def test_a_long_curve_is_thinned_out_and_keeps_both_ends() -> None:
    random = np.random.default_rng(0)
    confidence, right = random.random(5000), random.random(5000) < 0.7
    curve = accuracy_by_coverage(confidence, right)
    assert len(curve) == POINTS
    assert (curve[0].coverage, curve[-1].coverage) == (1 / 5000, 1.0)
    assert curve[-1].accuracy == pytest.approx(right.mean())
    assert at_coverage(curve, 0.8).coverage == pytest.approx(0.8, abs=0.01)


def test_groups_stand_together_and_classes_without_mistakes_at_the_end() -> None:
    order = np.random.default_rng(0).permutation(20).tolist()
    groups = [order[:4], order[4:9], order[9:12]]
    pairs = {(label, label): 10 for label in range(20)}
    pairs |= {(one, other): 3 for group in groups for one in group for other in group if one != other}
    found = order_by_likeness(metrics_of(pairs, 20))
    assert sorted(found) == list(range(20))
    for group in groups:
        where = sorted(found.index(label) for label in group)
        assert where == list(range(where[0], where[0] + len(group)))
    assert found[12:] == sorted(order[12:])


@pytest.mark.parametrize(("pairs", "order"), [({}, [0, 1, 2, 3]), ({(2, 0): 3, (0, 2): 1}, [0, 2, 1, 3])])
def test_with_hardly_a_mistake_there_is_still_an_order(pairs: dict[tuple[int, int], int], order: list[int]) -> None:
    assert order_by_likeness(metrics_of(pairs, 4)) == order
