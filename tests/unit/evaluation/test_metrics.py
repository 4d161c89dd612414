"""Counts and accuracies against formulas written independently in numpy."""

import numpy as np
import pytest
import torch
import torch.distributed as distributed
import torch.multiprocessing as multiprocessing

from mpfgvc.devices import gather
from mpfgvc.errors import DataError
from mpfgvc.evaluation.metrics import Evaluation, LeftOut, Pair, Scorer

CLASSES = tuple("abcdefg")
SOURCES = ("vision", "fusion")


def batches(count=53, classes=7, size=8, seed=0):
    """Logits on a coarse grid, so that many are equal, and labels that leave the last class out."""
    generator = torch.Generator().manual_seed(seed)
    logits = {source: torch.randint(0, 5, (count, classes), generator=generator) / 2 for source in SOURCES}
    labels = torch.randint(0, classes - 1, (count,), generator=generator)
    return [
        (
            {source: values[start : start + size] for source, values in logits.items()},
            labels[start : start + size],
        )
        for start in range(0, count, size)
    ]


def scored(parts, classes=CLASSES):
    scorer = Scorer(classes, SOURCES)
    for logits, labels in parts:
        scorer.add(logits, labels)
    return scorer


def whole(parts, source):
    logits = np.concatenate([part[source].numpy() for part, _ in parts])
    return logits, np.concatenate([labels.numpy() for _, labels in parts])


def reference_order(logits):
    """All classes from best to worst; a stable sort leaves equal ones in the order of their index."""
    return np.argsort(-logits, axis=1, kind="stable")


def reference_confusion(logits, labels):
    confusion = np.zeros((logits.shape[1], logits.shape[1]), dtype=int)
    np.add.at(confusion, (labels, reference_order(logits)[:, 0]), 1)
    return confusion


@pytest.mark.parametrize("source", SOURCES)
def test_accuracies_equal_those_of_a_dense_confusion_matrix_and_a_stable_sort(source):
    parts = batches()
    metrics = scored(parts).metrics()[source]
    logits, labels = whole(parts, source)
    confusion = reference_confusion(logits, labels)
    per_class = np.diag(confusion)[:-1] / confusion[:-1].sum(axis=1)
    assert metrics.count == 53
    assert metrics.top1 == np.mean(reference_order(logits)[:, 0] == labels)
    assert metrics.top5 == np.mean((reference_order(logits)[:, :5] == labels[:, None]).any(axis=1))
    assert metrics.mean_class == pytest.approx(per_class.mean(), abs=1e-12)
    np.testing.assert_allclose(metrics.per_class()[:-1], per_class, atol=1e-12)
    assert metrics.totals().tolist() == confusion.sum(axis=1).tolist()


def test_pairs_are_the_entries_of_the_confusion_matrix_that_are_not_zero():
    parts = batches()
    confusion = reference_confusion(*whole(parts, "fusion"))
    expected = [
        (row, column, confusion[row, column]) for row, column in zip(*confusion.nonzero(), strict=True)
    ]
    pairs = scored(parts).metrics()["fusion"].pairs
    assert [(pair.true, pair.predicted, pair.count) for pair in pairs] == expected


def test_of_equal_logits_the_class_with_the_lower_index_comes_first():
    equal = torch.zeros(14, 7)
    scorer = Scorer(CLASSES, ["fusion"])
    scorer.add({"fusion": equal}, torch.arange(7).repeat(2))
    metrics = scorer.metrics()["fusion"]
    assert [pair.predicted for pair in metrics.pairs] == [0] * 7
    assert metrics.top1 == pytest.approx(1 / 7)
    assert metrics.top5 == pytest.approx(5 / 7)


def test_with_fewer_than_five_classes_the_right_one_is_always_among_the_best():
    scorer = Scorer("abc", ["fusion"])
    scorer.add({"fusion": torch.tensor([[0.0, 1.0, 2.0], [3.0, 1.0, 2.0]])}, torch.tensor([0, 0]))
    metrics = scorer.metrics()["fusion"]
    assert (metrics.top1, metrics.top5) == (0.5, 1.0)


def test_nothing_scored_gives_zeros_and_no_nan():
    evaluation = Evaluation(split="test", classes=CLASSES, sources=Scorer(CLASSES, SOURCES).metrics())
    assert (evaluation.count, evaluation.top1, evaluation.top5, evaluation.mean_class) == (0, 0, 0, 0)
    assert evaluation.absent_classes == CLASSES


def test_a_class_without_photographs_is_absent_and_does_not_count_in_the_mean():
    scorer = Scorer("abc", ["fusion"])
    scorer.add({"fusion": torch.eye(3)[[0, 0, 2]]}, torch.tensor([0, 2, 2]))
    evaluation = Evaluation(split="test", classes=("a", "b", "c"), sources=scorer.metrics())
    assert evaluation.absent_classes == ("b",)
    assert evaluation.mean_class == 0.75
    assert np.isnan(evaluation.main.per_class()).tolist() == [False, True, False]


def test_the_most_frequent_mistakes_come_first():
    scorer = Scorer("abc", ["fusion"])
    predicted, true = torch.tensor([0, 1, 1, 0, 0, 2]), torch.tensor([0, 0, 0, 1, 2, 1])
    scorer.add({"fusion": torch.eye(3)[predicted]}, true)
    mistakes = scorer.metrics()["fusion"].mistakes(2)
    assert mistakes == [Pair(true=0, predicted=1, count=2), Pair(true=1, predicted=0, count=1)]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_logits_that_are_not_finite_are_refused_by_the_name_of_the_photograph(value):
    logits = torch.zeros(3, 7)
    logits[1, 4] = value
    with pytest.raises(DataError, match=r"fusion logits of wren\.jpg must be finite"):
        Scorer(CLASSES, ["fusion"]).add(
            {"fusion": logits}, torch.tensor([0, 1, 2]), ["auk.jpg", "wren.jpg", "tit.jpg"]
        )


def test_the_document_counts_what_was_left_out_and_names_absent_classes():
    left_out = LeftOut(unreadable=("a.jpg",), added=("b.jpg", "c.jpg"))
    evaluation = Evaluation(
        split="test",
        classes=CLASSES,
        sources=scored(batches(seed=1)).metrics(),
        set="external",
        precision="bf16",
        left_out=left_out,
        notes=("a note",),
    )
    document = evaluation.to_dict()
    assert document["left_out"] == {"unreadable": 1, "missing": 0, "trained_on": 0, "added": 2}
    assert document["absent_classes"] == ["g"]
    assert (document["set"], document["precision"], document["notes"]) == ("external", "bf16", ["a note"])
    assert document["top1"] == document["sources"]["fusion"]["top1"] != document["sources"]["vision"]["top1"]


def count_a_share(rank, port, queue):
    address = f"tcp://127.0.0.1:{port}"
    distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    first, *others = gather(scored(batches()[rank::2]))
    queue.put(first.join(others).metrics())
    distributed.barrier()
    distributed.destroy_process_group()


def test_two_processes_give_the_very_same_result_as_one(free_port):
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    processes = [context.Process(target=count_a_share, args=(rank, free_port, queue)) for rank in range(2)]
    for process in processes:
        process.start()
    results = [queue.get(timeout=120) for _ in processes]
    for process in processes:
        process.join()
    assert results == [scored(batches()).metrics()] * 2
