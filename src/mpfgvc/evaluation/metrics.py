"""Accuracies and counts of the three sources of logits.

A photograph leaves two facts for each source: the pair (true class, predicted class), and whether the
right class was among the five best. So memory grows with the photographs and the classes, never with
classes x classes. All results follow from whole numbers: whoever counted, they are the same.

The rank of a class is the number of classes with a larger logit. Of classes with equal logits, the one
with the lower index comes first; top-1 and top-5 both follow this rule.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from mpfgvc.config import Precision, Source
from mpfgvc.errors import DataError
from mpfgvc.evaluation.answers import Answers

if TYPE_CHECKING:
    from mpfgvc.evaluation.hierarchical import HierarchicalMetrics

BEST = 5
"""Guesses that count for top-5."""


@dataclass(frozen=True, slots=True)
class Pair:
    """How often the class `true` was taken for `predicted`; both are indices of classes."""

    true: int
    predicted: int
    count: int


@dataclass(frozen=True, kw_only=True)
class SourceMetrics:
    """How one source of logits did. Accuracies are in 0..1, and 0 where there are no photographs."""

    classes: int
    pairs: tuple[Pair, ...]
    """The pairs that occurred, sorted by true and predicted class: a sparse confusion matrix."""
    among_best: int
    """Photographs whose right class was among the five best guesses."""

    @property
    def count(self) -> int:
        """Photographs that were evaluated."""
        return sum(pair.count for pair in self.pairs)

    @property
    def top1(self) -> float:
        """Share of photographs whose best guess is right."""
        return sum(pair.count for pair in self.pairs if pair.true == pair.predicted) / max(1, self.count)

    @property
    def top5(self) -> float:
        """Share of photographs whose five best guesses hold the right class."""
        return self.among_best / max(1, self.count)

    @property
    def mean_class(self) -> float:
        """Mean of the accuracies of the classes that have photographs."""
        accuracies = self.per_class()
        present = accuracies[~np.isnan(accuracies)]
        return float(present.mean()) if present.size else 0.0

    def per_class(self) -> NDArray[np.float64]:
        """Accuracy of each class; NaN for a class without photographs."""
        right, totals = np.zeros(self.classes), self.totals()
        for pair in self.pairs:
            if pair.true == pair.predicted:
                right[pair.true] = pair.count
        accuracies = np.full(self.classes, np.nan)
        np.divide(right, totals, out=accuracies, where=totals > 0)
        return accuracies

    def totals(self) -> NDArray[np.int64]:
        """Photographs of each class."""
        totals = np.zeros(self.classes, dtype=np.int64)
        for pair in self.pairs:
            totals[pair.true] += pair.count
        return totals

    def mistakes(self, most: int) -> list[Pair]:
        """The `most` frequent wrong pairs, most frequent first; equal ones in the order of the classes."""
        wrong = [pair for pair in self.pairs if pair.true != pair.predicted]
        return sorted(wrong, key=lambda pair: -pair.count)[:most]

    def to_dict(self) -> dict[str, float]:
        """The accuracies by name."""
        return {"top1": self.top1, "top5": self.top5, "mean_class": self.mean_class}


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """The photographs that were not evaluated, by reason. Each is named by its path."""

    unreadable: tuple[str, ...] = ()
    """They are there, but cannot be decoded."""
    missing: tuple[str, ...] = ()
    """They belong to the split of the run, but are no longer there."""
    trained_on: tuple[str, ...] = ()
    """The run was trained on them, or chosen by them."""
    added: tuple[str, ...] = ()
    """They came to the dataset after the run had begun, so they are in none of its splits."""

    def to_dict(self) -> dict[str, int]:
        """The number of photographs for each reason."""
        return {reason: len(paths) for reason, paths in vars(self).items()}


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Metrics of each source of logits; the main one is what the model answers with (the paper: fusion)."""

    split: str
    classes: tuple[str, ...]
    sources: Mapping[str, SourceMetrics]
    prediction: Source = "fusion"
    """The source that the model answers with."""
    set: Literal["run", "external"] = "run"
    """run: a split of the photographs that the run began with, or that settings name; external: another
    labelled set."""
    precision: Precision = "fp32"
    answers: Answers | None = None
    """What each source said about each photograph; None if only counts were kept."""
    hierarchy: HierarchicalMetrics | None = None
    """How far the answers are from the truth in the taxonomy; None for a model without one."""
    recall: Mapping[int, float] = field(default_factory=dict)
    """Recall@k by k (retrieval.py), 0..1; empty if it was not asked for."""
    left_out: LeftOut = field(default_factory=LeftOut)
    notes: tuple[str, ...] = ()
    """Lines for people: what was left out and why, how the photographs were chosen."""

    @property
    def main(self) -> SourceMetrics:
        """The metrics of what the model answers with, or of the first source there is."""
        return self.sources[self.main_source]

    @property
    def main_source(self) -> str:
        """The source that the model answers with, or the first one there is."""
        return self.prediction if self.prediction in self.sources else next(iter(self.sources))

    @property
    def count(self) -> int:
        """Photographs that were evaluated."""
        return self.main.count

    @property
    def top1(self) -> float:
        """Share of photographs whose best guess is right. 0..1."""
        return self.main.top1

    @property
    def top5(self) -> float:
        """Share of photographs whose five best guesses hold the right class. 0..1."""
        return self.main.top5

    @property
    def mean_class(self) -> float:
        """Mean of the accuracies of the classes that have photographs. 0..1."""
        return self.main.mean_class

    @property
    def absent_classes(self) -> tuple[str, ...]:
        """The classes of which no photograph was evaluated."""
        totals = self.main.totals()
        return tuple(name for name, total in zip(self.classes, totals, strict=True) if total == 0)

    def to_dict(self) -> dict[str, Any]:
        """The document of `mpfgvc evaluate --json`."""
        return {
            "split": self.split,
            "set": self.set,
            "count": self.count,
            **self.main.to_dict(),
            "prediction": self.prediction,
            "precision": self.precision,
            "sources": {name: metrics.to_dict() for name, metrics in self.sources.items()},
            **({} if self.hierarchy is None else {"hierarchy": self.hierarchy.to_dict()}),
            **({"recall": {str(k): share for k, share in self.recall.items()}} if self.recall else {}),
            "left_out": self.left_out.to_dict(),
            "absent_classes": list(self.absent_classes),
            "notes": list(self.notes),
        }


class Scorer:
    """Counts batch by batch. It holds no tensors, so scorers of several processes can be sent and joined."""

    def __init__(self, classes: Sequence[str], sources: Iterable[str]) -> None:
        self.classes = tuple(classes)
        self.pairs: dict[str, Counter[tuple[int, int]]] = {source: Counter() for source in sources}
        self.among_best: Counter[str] = Counter()

    def add(
        self, logits: Mapping[str, Tensor], labels: Int[Tensor, " batch"], names: Sequence[str] = ()
    ) -> None:
        """Take in the logits of each source for a batch; `names` are those of its photographs.

        Raises DataError naming the first photograph that has logits which are not finite.
        """
        true = labels.tolist()
        for source, pairs in self.pairs.items():
            _refuse_not_finite(logits[source], source, names)
            pairs.update(zip(true, best_classes(logits[source]).tolist(), strict=True))
            self.among_best[source] += int((ranks(logits[source], labels) < BEST).sum())

    def join(self, others: Iterable[Scorer]) -> Scorer:
        """Add what others counted to this one, which is returned."""
        for other in others:
            self.among_best.update(other.among_best)
            for source, pairs in self.pairs.items():
                pairs.update(other.pairs[source])
        return self

    def metrics(self) -> dict[str, SourceMetrics]:
        """The metrics of each source over all that was added."""
        return {
            source: SourceMetrics(
                classes=len(self.classes),
                pairs=tuple(Pair(*pair, count) for pair, count in sorted(pairs.items())),
                among_best=self.among_best[source],
            )
            for source, pairs in self.pairs.items()
        }


def best_classes(logits: Float[Tensor, "batch classes"]) -> Int[Tensor, " batch"]:
    """The class of each photograph's largest logit, the first of equal ones; argmax promises no order."""
    places = torch.arange(logits.shape[1], device=logits.device)
    largest = logits == logits.amax(dim=1, keepdim=True)
    return torch.where(largest, places, logits.shape[1]).amin(dim=1)


def ranks(logits: Float[Tensor, "batch classes"], labels: Int[Tensor, " batch"]) -> Int[Tensor, " batch"]:
    """How many classes come before the right one, for each photograph."""
    places = torch.arange(logits.shape[1], device=logits.device)
    right = logits.gather(1, labels[:, None])
    before: Bool[Tensor, "batch classes"] = (logits == right) & (places < labels[:, None])
    return ((logits > right) | before).sum(dim=1)


def _refuse_not_finite(logits: Float[Tensor, "batch classes"], source: str, names: Sequence[str]) -> None:
    finite = logits.isfinite().all(dim=1).tolist()
    if all(finite):
        return
    place = finite.index(False)
    name = names[place] if names else f"photograph {place} of a batch"
    raise DataError(
        f"the {source} logits of {name} must be finite, got NaN or infinity; "
        "the model is damaged or its training diverged, restore it or train again"
    )
