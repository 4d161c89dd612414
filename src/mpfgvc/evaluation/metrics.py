"""How right each source of logits is, from what it says about every photograph.

A photograph leaves four numbers for each source: the class that it was taken for, the rank of the right
class, and the probabilities of both. So memory grows with the photographs, never with classes x classes,
and whoever computed the numbers, on one process or on several, the accuracies are the same.

The rank of a class is 1 plus the number of classes with a larger logit. Of classes with equal logits the one
with the lower index comes first; top-1 and top-5 both follow this rule.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from mpfgvc.data.samples import relative_path
from mpfgvc.data.taxonomy import Taxonomy
from mpfgvc.errors import CheckpointError
from mpfgvc.files import check_digest, write_with_digest
from mpfgvc.terms import Precision, Source

BEST = 5
"""Guesses that count for top-5."""
_PARTS = ("probability", "truth", "rank")


class Pair(NamedTuple):
    """How often the class `true` was taken for `predicted`; both are indices of classes."""

    true: int
    predicted: int
    photographs: int


@dataclass(frozen=True, kw_only=True, eq=False)
class SourceMetrics:
    """What one source of logits says about some photographs, in their order, and how right it is.

    Probabilities and accuracies are in 0..1; accuracies are 0 where there are no photographs.
    """

    classes: int
    labels: NDArray[np.int64]
    """The right class of each photograph."""
    guesses: NDArray[np.int64]
    """The class that it was taken for."""
    ranks: NDArray[np.int64]
    """Of the right class: 1 where the guess is right."""
    probability: NDArray[np.float64]
    """Of the guess."""
    truth: NDArray[np.float64]
    """The probability of the right class."""

    @classmethod
    def of(cls, rows: NDArray[np.float64], labels: NDArray[np.int64], classes: int) -> Self:
        """From rows (photographs, 4): guess, rank, and the probabilities of guess and right class."""
        guesses, ranks, probability, truth = rows.reshape(-1, 4).T
        return cls(
            classes=classes,
            labels=labels,
            guesses=guesses.astype(np.int64),
            ranks=ranks.astype(np.int64),
            probability=probability,
            truth=truth,
        )

    @property
    def count(self) -> int:
        """Photographs that were evaluated."""
        return len(self.labels)

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether the guess is right, for each photograph."""
        right: NDArray[np.bool_] = self.guesses == self.labels
        return right

    @property
    def top1(self) -> float:
        """Share of photographs whose best guess is right."""
        return int(self.right.sum()) / max(1, self.count)

    @property
    def top5(self) -> float:
        """Share of photographs whose five best guesses hold the right class."""
        return int((self.ranks <= BEST).sum()) / max(1, self.count)

    @property
    def mean_class(self) -> float:
        """Mean of the accuracies of the classes that have photographs."""
        accuracies = self.per_class()
        return float(np.nanmean(accuracies)) if self.count else 0.0

    @cached_property
    def pairs(self) -> tuple[Pair, ...]:
        """The pairs that occurred, right ones included, sorted: a sparse confusion matrix."""
        cells, counts = np.unique(self.labels * self.classes + self.guesses, return_counts=True)
        found = zip(cells.tolist(), counts.tolist(), strict=True)
        return tuple(Pair(cell // self.classes, cell % self.classes, count) for cell, count in found)

    def per_class(self) -> NDArray[np.float64]:
        """Accuracy of each class; NaN for a class without photographs."""
        totals = self.totals()
        right = np.bincount(self.labels[self.right], minlength=self.classes)
        return np.where(totals > 0, right / np.maximum(totals, 1), np.nan)

    def totals(self) -> NDArray[np.int64]:
        """Photographs of each class."""
        return np.bincount(self.labels, minlength=self.classes)

    def mistakes(self, most: int | None = None) -> list[Pair]:
        """The `most` frequent wrong pairs, most frequent first; equal ones in the order of the classes."""
        wrong = [pair for pair in self.pairs if pair.true != pair.predicted]
        return sorted(wrong, key=lambda pair: -pair.photographs)[:most]

    def to_dict(self) -> dict[str, float]:
        """The accuracies by name."""
        return {"top1": self.top1, "top5": self.top5, "mean_class": self.mean_class}


@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """What each source says about the photographs at `paths`, which are empty where they are not known."""

    paths: tuple[str, ...]
    classes: tuple[str, ...]
    sources: Mapping[str, SourceMetrics]

    def below(self, root: Path | None) -> Answers:
        """The same with paths from the dataset's root, which hold wherever the dataset is."""
        paths = tuple(relative_path(Path(path), root) for path in self.paths)
        return Answers(paths=paths, classes=self.classes, sources=self.sources)


@dataclass(frozen=True, kw_only=True)
class HierarchicalMetrics:
    """How far answers are from the truth in a taxonomy (data/taxonomy.py).

    An answer is right at a level if it is in the group of the right class.
    """

    accuracy: dict[str, float]
    """By level, finest first, 0..1."""
    mistake_distance: float | None
    """Mean number of levels up to where the two classes meet; None without mistakes."""
    farthest: int
    """The distance of classes that never meet."""


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
    copies: tuple[str, ...] = ()
    """They are the same file as another photograph of the set, which is evaluated."""

    def to_dict(self) -> dict[str, int]:
        """The number of photographs for each reason."""
        return {reason: len(paths) for reason, paths in vars(self).items()}


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation(Answers):
    """Metrics of each source of logits; the main one is what the model answers with (the paper: fusion)."""

    split: str
    prediction: Source = "fusion"
    """The source that the model answers with."""
    set: Literal["run", "external"] = "run"
    """run: a split of the photographs that the run began with, or that settings name; external: another
    labelled set."""
    precision: Precision = "fp32"
    taxonomy: Taxonomy | None = None
    left_out: LeftOut = field(default_factory=LeftOut)
    notes: tuple[str, ...] = ()
    """Lines for people: what was left out and why, how the photographs were chosen."""

    @property
    def main_source(self) -> str:
        """The source that the model answers with, or the first one there is."""
        return self.prediction if self.prediction in self.sources else next(iter(self.sources))

    @property
    def main(self) -> SourceMetrics:
        """The metrics of the main source."""
        return self.sources[self.main_source]

    @property
    def count(self) -> int:
        """Photographs that were evaluated."""
        return self.main.count

    @property
    def top1(self) -> float:
        """Share of photographs whose best guess is right. 0..1"""
        return self.main.top1

    @property
    def hierarchy(self) -> HierarchicalMetrics | None:
        """How far the answers are from the truth in the taxonomy; None for a model without one."""
        if self.taxonomy is None:
            return None
        by_distance = np.zeros(len(self.taxonomy.levels) + 2, np.int64)
        for true, predicted, count in self.main.pairs:
            by_distance[self.taxonomy.distance(true, predicted)] += count
        right = np.cumsum(by_distance[:-1]) / max(1, self.count)
        wrong, far = by_distance[1:].sum(), by_distance @ np.arange(len(by_distance))
        return HierarchicalMetrics(
            accuracy=dict(zip(self.taxonomy.names, right.tolist(), strict=True)),
            mistake_distance=float(far / wrong) if wrong else None,
            farthest=len(self.taxonomy.levels) + 1,
        )

    def to_dict(self) -> dict[str, Any]:
        """The document of `mpfgvc evaluate --json`."""
        hierarchy = self.hierarchy
        return {
            "split": self.split,
            "set": self.set,
            "count": self.count,
            **self.main.to_dict(),
            "prediction": self.prediction,
            "precision": self.precision,
            "sources": {name: metrics.to_dict() for name, metrics in self.sources.items()},
            **({} if hierarchy is None else {"hierarchy": asdict(hierarchy)}),
            "left_out": self.left_out.to_dict(),
            "absent_classes": [self.classes[label] for label in np.flatnonzero(self.main.totals() == 0)],
            "notes": list(self.notes),
        }


def save_answers(answers: Answers, path: Path) -> None:
    """Write `predictions-<split>.csv` of a run folder, with its digest. Raises OutputError.

    A row for each photograph, in the order of the dataset: its path below the dataset's root, its class, and
    what each source of logits took it for. Behind them stand the probability of that guess, the probability
    and the rank of the right class (`fusion_probability,fusion_truth,fusion_rank`), in six digits.
    """
    names, sources = np.array(answers.classes, dtype=object), answers.sources
    labels = next(iter(sources.values())).labels
    columns = [answers.paths, names[labels], *(names[metrics.guesses] for metrics in sources.values())]
    for metrics in sources.values():
        columns += [[f"{value:.6g}" for value in values] for values in (metrics.probability, metrics.truth)]
        columns.append(metrics.ranks)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "label", *sources, *(f"{name}_{part}" for name in sources for part in _PARTS)])
    writer.writerows(zip(*columns, strict=True))
    write_with_digest(path, text.getvalue().encode(errors="surrogateescape"))


def load_answers(path: Path, classes: Sequence[str] = ()) -> Answers:
    """What `save_answers` wrote, of a model with these classes; () = those that occur, sorted by name.

    Raises CheckpointError for a file that is missing or damaged.
    """
    check_digest(path)
    try:
        text = path.read_bytes().decode(errors="surrogateescape")
        heading, *rows = csv.reader(io.StringIO(text, newline=""))
        columns = list(zip(*rows, strict=True)) if rows else [()] * len(heading)
        return _answers_of(dict(zip(heading, columns, strict=True)), classes)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}; restore the file") from None
    except (ValueError, KeyError, csv.Error) as error:
        raise CheckpointError(f"{path} is not a table of predictions: {error}; restore the file") from None


def _answers_of(cells: Mapping[str, Sequence[str]], classes: Sequence[str]) -> Answers:
    names = [name.removesuffix("_rank") for name in cells if name.endswith("_rank")]
    if not names:
        raise ValueError("it has no column such as fusion_rank")
    classes = classes or sorted({label for name in ("label", *names) for label in cells[name]})
    number = {name: label for label, name in enumerate(classes)}

    def read(source: str) -> SourceMetrics:
        label_columns = [np.array([number[name] for name in cells[key]], np.int64) for key in ("label", source)]
        probability, truth, ranks = (np.array(cells[f"{source}_{part}"], np.float64) for part in _PARTS)
        rows = np.stack([label_columns[1], ranks, probability, truth], axis=1)
        return SourceMetrics.of(rows, label_columns[0], len(classes))

    return Answers(paths=tuple(cells["path"]), classes=tuple(classes), sources={name: read(name) for name in names})
