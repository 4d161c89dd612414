"""What is kept of the logits, and accuracies against formulas written independently in numpy."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.made_answers import evaluation_of, metrics_of

from mpfgvc.data.taxonomy import Taxonomy
from mpfgvc.errors import DataError
from mpfgvc.evaluation.evaluate import judged
from mpfgvc.evaluation.metrics import LeftOut, SourceMetrics


def logits_and_labels(count: int = 53) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits on a coarse grid, so that many are equal, and labels that leave the last class out."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randint(0, 5, (count, 7), generator=generator) / 2
    return logits, torch.randint(0, 6, (count,), generator=generator)


def test_probabilities_and_ranks_equal_those_of_a_softmax_and_a_stable_sort() -> None:
    logits, labels = logits_and_labels()
    values = logits.numpy() / 2
    shares = np.exp(values) / np.exp(values).sum(axis=1, keepdims=True)
    rows = judged(logits, labels, temperature=2.0)
    for row, label, share, found in zip(values, labels.tolist(), shares, rows, strict=True):
        order = np.argsort(-row, kind="stable").tolist()  # of equal logits the lower index comes first
        assert found[:2].tolist() == [order[0], order.index(label) + 1]
        assert found[2:] == pytest.approx([share[order[0]], share[label]], rel=1e-5)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_logits_that_are_not_finite_are_refused(value: float) -> None:
    logits = torch.zeros(3, 7)
    logits[1, 4] = value
    with pytest.raises(DataError, match="logits must be finite, got NaN or infinity; the model is damaged"):
        judged(logits, torch.tensor([0, 1, 2]))


def test_accuracies_and_pairs_equal_those_of_a_dense_confusion_matrix_and_a_stable_sort() -> None:
    logits, labels = logits_and_labels()
    truth = labels.numpy()
    metrics = SourceMetrics.of(judged(logits, labels), truth, 7)
    order = np.argsort(-logits.numpy(), axis=1, kind="stable")
    confusion = np.zeros((7, 7), dtype=int)
    np.add.at(confusion, (truth, order[:, 0]), 1)
    per_class = np.diag(confusion)[:-1] / confusion[:-1].sum(axis=1)
    assert metrics.count == 53
    assert metrics.top1 == np.mean(order[:, 0] == truth)
    assert metrics.top5 == np.mean((order[:, :5] == truth[:, None]).any(axis=1))
    assert metrics.mean_class == pytest.approx(per_class.mean(), abs=1e-12)
    np.testing.assert_allclose(metrics.per_class(), [*per_class, np.nan], atol=1e-12)
    assert metrics.totals().tolist() == confusion.sum(axis=1).tolist()
    assert metrics.pairs == tuple(
        (row, column, confusion[row, column]) for row, column in zip(*confusion.nonzero(), strict=True)
    )


def test_nothing_scored_gives_zeros_and_no_nan() -> None:
    document = evaluation_of({}, "abc").to_dict()
    assert [document[name] for name in ("count", "top1", "top5", "mean_class")] == [0, 0, 0, 0]
    assert document["absent_classes"] == ["a", "b", "c"]


def test_the_most_frequent_mistakes_come_first() -> None:
    metrics = metrics_of({(0, 0): 1, (2, 0): 1, (0, 1): 2, (1, 0): 1, (1, 2): 1}, 3)
    assert metrics.mistakes(2) == [(0, 1, 2), (1, 0, 1)]
    assert len(metrics.mistakes()) == 4


def test_accuracy_rises_with_the_level_and_mistakes_have_a_mean_distance() -> None:
    tree = Taxonomy(levels=("genus", "family"), groups=(("A", "A", "B", "C"), ("F", "F", "F", "G")))
    pairs = {(0, 0): 5, (0, 1): 2, (2, 0): 1, (3, 0): 1, (3, 3): 1}
    found = replace(evaluation_of(pairs, "abcd"), taxonomy=tree).to_dict()["hierarchy"]
    assert found["accuracy"] == pytest.approx({"class": 0.6, "genus": 0.8, "family": 0.9})
    assert (found["mistake_distance"], found["farthest"]) == ((2 * 1 + 1 * 2 + 1 * 3) / 4, 3)
    right = replace(evaluation_of({(1, 1): 3}, "abcd"), taxonomy=tree).hierarchy
    assert right is not None
    assert right.mistake_distance is None


def test_the_document_counts_what_was_left_out_and_a_class_without_photographs_is_in_no_mean() -> None:
    made = evaluation_of({(0, 0): 1, (2, 0): 1, (2, 2): 1}, "abc")
    left_out = LeftOut(unreadable=("a.jpg",), added=("b.jpg", "c.jpg"))
    document = replace(made, set="external", precision="bf16", left_out=left_out, notes=("a note",)).to_dict()
    assert document["left_out"] == {"unreadable": 1, "missing": 0, "trained_on": 0, "added": 2, "copies": 0}
    assert (document["absent_classes"], document["mean_class"]) == (["b"], 0.75)
    assert (document["set"], document["precision"], document["notes"]) == ("external", "bf16", ["a note"])
    assert (document["count"], document["sources"]["fusion"]["top1"]) == (3, 2 / 3)
    assert "hierarchy" not in document
