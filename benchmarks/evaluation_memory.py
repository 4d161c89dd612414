"""Thousands of classes: memory and time of counting an evaluation, against dense confusion matrices.

    python benchmarks/evaluation_memory.py

8,142 classes (iNaturalist 2021 mini has 10,000, 2018 has 8,142), random logits of three sources. The
reference counts as torchmetrics does: for each source a matrix of classes x classes, added up with a
`bincount` of that size, and top-5 from `topk`. Memory is the whole evaluation, from the first batch to the
metrics and the most frequent mistakes.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from mpfgvc.evaluation.evaluate import judged
from mpfgvc.evaluation.metrics import Evaluation, SourceMetrics
from side_by_side import Comparison, compare_memory, compare_time, comparison, peak_megabytes, report

CLASSES, BATCH, BATCHES = 8142, 32, 6
SOURCES = ("vision", "text", "fusion")


class Sparse:
    """What an evaluation keeps: four numbers a photograph and source."""

    def __init__(self, classes: int) -> None:
        self.classes = tuple(f"class {label}" for label in range(classes))
        self.rows: dict[str, list[np.ndarray]] = {source: [] for source in SOURCES}
        self.labels: list[np.ndarray] = []

    def add(self, logits: Mapping[str, Tensor], labels: Tensor) -> None:
        self.labels.append(labels.numpy())
        for source in SOURCES:
            self.rows[source].append(judged(logits[source], labels))

    def finish(self) -> None:
        labels = np.concatenate(self.labels)
        sources = {
            source: SourceMetrics.of(np.concatenate(rows), labels, len(self.classes))
            for source, rows in self.rows.items()
        }
        evaluation = Evaluation(split="test", paths=(), classes=self.classes, sources=sources)
        evaluation.to_dict()
        evaluation.main.mistakes(5)


class Dense:
    """A matrix of classes x classes for each source."""

    def __init__(self) -> None:
        shape = (CLASSES, CLASSES)
        self.confusion = {source: torch.zeros(shape, dtype=torch.long) for source in SOURCES}
        self.hits = dict.fromkeys(SOURCES, 0)

    def add(self, logits: Mapping[str, Tensor], labels: Tensor) -> None:
        for source in SOURCES:
            places = labels * CLASSES + logits[source].argmax(dim=1)
            self.confusion[source] += places.bincount(minlength=CLASSES**2).reshape(CLASSES, CLASSES)
            best = logits[source].topk(5).indices
            self.hits[source] += int((best == labels[:, None]).sum())

    def result(self) -> list[float]:
        results: list[float] = []
        for confusion in self.confusion.values():
            right = confusion.diagonal()
            mistakes = confusion.clone().fill_diagonal_(0).flatten().topk(5)
            results += [right.sum() / confusion.sum(), (right / confusion.sum(dim=1)).nanmean(), *mistakes.values]
        return results


def main() -> None:
    batches = [_batch(seed) for seed in range(BATCHES)]
    sparse, dense = Sparse(CLASSES), Dense()
    logits, labels = batches[0]
    claims = [
        compare_memory(
            f"counting {BATCH * BATCHES} photographs, C = {CLASSES:,}, 3 sources: peak memory",
            ours=lambda: _evaluate(batches),
            reference=lambda: _evaluate_densely(batches),
            wanted=50,
        ),
        compare_time(
            f"counting a batch of {BATCH}, C = {CLASSES:,}, 3 sources",
            ours=lambda: sparse.add(logits, labels),
            reference=lambda: dense.add(logits, labels),
            wanted=20,
        ),
        _growth(),
    ]
    report("evaluation_memory", claims)


def _growth() -> Comparison:
    """Eight times the classes must take at most eight times the memory: per class, no more than with few."""
    few, many = 1000, 8000
    pairs = [
        (
            1000 * peak_megabytes(lambda: _count_labels(many, few)) / many,
            1000 * peak_megabytes(lambda: _count_labels(few, few)) / few,
        )
        for _ in range(3)
    ]
    claim = f"counting {few:,} photographs: {many:,} classes against {few:,}, memory per 1,000"
    return comparison(claim, "MB", pairs, 0.9)


def _count_labels(classes: int, photographs: int) -> None:
    generator = torch.Generator().manual_seed(0)
    sparse = Sparse(classes)
    for _ in range(photographs // 10):
        labels = torch.randint(classes, (10,), generator=generator)
        logits = torch.rand(10, classes, generator=generator)
        sparse.add(dict.fromkeys(SOURCES, logits), labels)
    sparse.finish()


def _evaluate(batches: list[tuple[Mapping[str, Tensor], Tensor]]) -> None:
    sparse = Sparse(CLASSES)
    for logits, labels in batches:
        sparse.add(logits, labels)
    sparse.finish()


def _evaluate_densely(batches: list[tuple[Mapping[str, Tensor], Tensor]]) -> None:
    dense = Dense()
    for logits, labels in batches:
        dense.add(logits, labels)
    dense.result()


def _batch(seed: int) -> tuple[Mapping[str, Tensor], Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = {source: torch.randn(BATCH, CLASSES, generator=generator) for source in SOURCES}
    return logits, torch.randint(CLASSES, (BATCH,), generator=generator)


if __name__ == "__main__":
    main()
