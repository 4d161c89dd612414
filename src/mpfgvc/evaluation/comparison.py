"""Several recipes, each trained with several seeds, side by side: accuracies, intervals, differences, cost.

Every recipe is compared with a reference on the same photographs, one by one (statistics.py). What a recipe
answers with is its own `model.prediction`; the accuracies of all three sources stand beside it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpfgvc.config import Source
from mpfgvc.errors import DataError
from mpfgvc.evaluation.answers import Answers
from mpfgvc.evaluation.statistics import Difference, Interval, accuracy_interval, paired_difference


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What one run answered, and what it cost."""

    seed: int
    answers: Answers
    seconds: float
    """Wall time of its epochs and embedding passes."""
    peak_bytes: int | None
    """Most memory that its process had at once; None if that is not known."""

    def accuracy(self, source: str) -> float:
        """Share of photographs that a source was right about. 0..1."""
        return float(self.answers.right(source).mean())


@dataclass(frozen=True, kw_only=True)
class RecipeResults:
    """The runs of one recipe, the source that it answers with, and its settings that are its own."""

    name: str
    prediction: Source
    runs: tuple[RunResult, ...]
    changes: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class ComparedRecipe:
    """One row of a comparison. Accuracies are in 0..1."""

    name: str
    prediction: Source
    seeds: tuple[int, ...]
    accuracies: tuple[float, ...]
    """By seed."""
    accuracy: float
    """Over all photographs and seeds."""
    interval: Interval
    difference: Difference | None
    """To the reference; None for the reference itself."""
    sources: Mapping[str, float]
    """The mean accuracy of each source of logits."""
    minutes: float
    """Of one training, on average over the seeds."""
    peak_bytes: int | None
    """The most of all seeds."""
    changes: Mapping[str, str]
    """The settings that differ from those of the reference."""

    @property
    def deviation(self) -> float | None:
        """Standard deviation of the accuracy over the seeds; None for a single one."""
        return float(np.std(self.accuracies, ddof=1)) if len(self.accuracies) > 1 else None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A comparison on one split; `photographs` counts each of its photographs once."""

    split: str
    reference: str
    photographs: int
    rows: tuple[ComparedRecipe, ...]

    def to_dict(self) -> dict[str, Any]:
        """The document of `mpfgvc compare --json`."""
        rows = [{**asdict(row), "deviation": row.deviation} for row in self.rows]
        return {
            "split": self.split,
            "reference": self.reference,
            "photographs": self.photographs,
            "recipes": rows,
        }


def compared(recipes: Sequence[RecipeResults], *, reference: str, split: str) -> Comparison:
    """The comparison of some recipes, one of which is the reference.

    Raises DataError if they were not tested on the same photographs, seed by seed.
    """
    base = next(each for each in recipes if each.name == reference)
    for each in recipes:
        _refuse_other_photographs(each, base)
    paths = sorted({path for run in base.runs for path in run.answers.paths})
    return Comparison(
        split=split,
        reference=reference,
        photographs=len(paths),
        rows=tuple(_row(each, base, paths) for each in recipes),
    )


def _row(recipe: RecipeResults, base: RecipeResults, paths: Sequence[str]) -> ComparedRecipe:
    seen, right = _seen(recipe, paths), _right(recipe, paths)
    memory = [run.peak_bytes for run in recipe.runs if run.peak_bytes is not None]
    is_base = recipe.name == base.name
    return ComparedRecipe(
        name=recipe.name,
        prediction=recipe.prediction,
        seeds=tuple(run.seed for run in recipe.runs),
        accuracies=tuple(run.accuracy(recipe.prediction) for run in recipe.runs),
        accuracy=float(right.sum() / seen.sum()),
        interval=accuracy_interval(right, seen),
        difference=None if is_base else paired_difference(right, _right(base, paths), seen),
        sources={
            source: float(np.mean([run.accuracy(source) for run in recipe.runs]))
            for source in recipe.runs[0].answers.predicted
        },
        minutes=float(np.mean([run.seconds for run in recipe.runs])) / 60,
        peak_bytes=max(memory, default=None),
        changes=recipe.changes,
    )


def _seen(recipe: RecipeResults, paths: Sequence[str]) -> NDArray[np.int64]:
    """How many seeds tested each photograph."""
    counts = Counter(path for run in recipe.runs for path in run.answers.paths)
    return np.array([counts[path] for path in paths])


def _right(recipe: RecipeResults, paths: Sequence[str]) -> NDArray[np.int64]:
    """How many seeds were right about each photograph."""
    counts: Counter[str] = Counter()
    for run in recipe.runs:
        right = run.answers.right(recipe.prediction)
        counts.update(path for path, is_right in zip(run.answers.paths, right, strict=True) if is_right)
    return np.array([counts[path] for path in paths])


def _refuse_other_photographs(recipe: RecipeResults, base: RecipeResults) -> None:
    for run, other in zip(recipe.runs, base.runs, strict=True):
        tested = [dict(zip(each.answers.paths, each.answers.labels, strict=True)) for each in (run, other)]
        if tested[0] != tested[1]:
            rule = f"was tested on other photographs than {base.name} (seed {run.seed})"
            hint = "only recipes with the same data can be compared; remove one of the two"
            raise DataError(f"{recipe.name} {rule}; {hint}")
