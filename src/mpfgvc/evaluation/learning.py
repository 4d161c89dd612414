"""Which classes a training learned last, from the validation accuracies that it wrote after each epoch.

A class is as slow as the mean of its accuracy over the epochs is low: one number that tells a class that was
learned late, or never, from one that was known at once, without a threshold.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mpfgvc.errors import one_line
from mpfgvc.storage.class_rows import ClassRow, read_class_rows


@dataclass(frozen=True, kw_only=True)
class LearnedClass:
    """One class and its validation accuracy after each epoch, 0..1."""

    label: int
    accuracies: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Over the epochs."""
        return sum(self.accuracies) / len(self.accuracies)


@dataclass(frozen=True, kw_only=True)
class Learning:
    """The classes of a run, slowest first; or why that is not known."""

    classes: tuple[LearnedClass, ...] = ()
    reason: str | None = None


def learning_of(file: Path | None, classes: Sequence[str]) -> Learning:
    """What the `class_accuracy.csv` of a run says."""
    if file is None:
        return Learning(reason="there is no run behind this evaluation")
    try:
        rows = read_class_rows(file, classes)
    except (OSError, ValueError) as error:
        return Learning(reason=f"{file.name} of the run cannot be read: {one_line(error)}")
    if len(rows) < 2:
        return Learning(
            reason=f"the run has no {file.name} with two epochs or more; "
            "a training writes it if it has validation photographs (data.validation)"
        )
    return Learning(classes=tuple(sorted(_learned(rows), key=lambda each: each.mean)))


def _learned(rows: Sequence[ClassRow]) -> list[LearnedClass]:
    columns = zip(*(row.accuracies for row in rows), strict=True)
    return [
        LearnedClass(label=label, accuracies=column)
        for label, column in enumerate(columns)
        if not any(map(math.isnan, column))
    ]
