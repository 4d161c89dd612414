"""Answers about photographs, made from how often one class was taken for another."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mpfgvc.evaluation.metrics import Answers, Evaluation, SourceMetrics


def metrics_of(pairs: Mapping[tuple[int, int], int], classes: int) -> SourceMetrics:
    """`pairs` says how often a class (the first) was taken for another; all answers are equally sure."""
    labels, guesses = (
        np.array([pair[side] for pair, count in pairs.items() for _ in range(count)], dtype=np.int64) for side in (0, 1)
    )
    right = labels == guesses
    rows = np.stack([guesses, np.where(right, 1, 2), np.full(len(right), 0.6), np.where(right, 0.6, 0.2)], axis=1)
    return SourceMetrics.of(rows, labels, classes)


def evaluation_of(
    pairs: Mapping[tuple[int, int], int], classes: Sequence[str], sources: Sequence[str] = ("fusion",)
) -> Evaluation:
    """An evaluation in which all the sources say the same."""
    metrics = metrics_of(pairs, len(classes))
    return Evaluation(
        split="test",
        paths=tuple(f"{number}.jpg" for number in range(metrics.count)),
        classes=tuple(classes),
        sources=dict.fromkeys(sources, metrics),
    )


def answers_of(labels: Sequence[str], guesses: Mapping[str, Sequence[str]], paths: Sequence[str | Path]) -> Answers:
    """What some sources took photographs for, by the names of classes."""
    classes = sorted({*labels, *(name for column in guesses.values() for name in column)})
    truth = np.array([classes.index(label) for label in labels], dtype=np.int64)
    sources = {}
    for source, names in guesses.items():
        column = np.array([classes.index(name) for name in names], dtype=np.int64)
        right = column == truth
        rows = np.stack([column, np.where(right, 1, 2), np.full(len(truth), 0.75), np.where(right, 0.75, 0.25)], axis=1)
        sources[source] = SourceMetrics.of(rows, truth, len(classes))
    return Answers(paths=tuple(map(str, paths)), classes=tuple(classes), sources=sources)
