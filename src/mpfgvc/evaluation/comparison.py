"""Several recipes, each trained with several seeds, side by side: accuracies, intervals, differences, cost.

Every recipe is compared with a reference on the same photographs, one by one (statistics.py). What a recipe
answers with is its own `model.prediction`; the accuracies of all three sources stand beside it.

On disk a comparison is `table.csv` (all digits), `table.md` and `comparison.json`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpfgvc.errors import DataError, csv_text
from mpfgvc.evaluation.metrics import Answers
from mpfgvc.evaluation.statistics import Difference, Interval, accuracy_interval, paired_difference
from mpfgvc.files import make_folder, write_text
from mpfgvc.terms import Source

COLUMNS = ("recipe", "top-1 %", "sd", "95 %", "difference", "95 % of it", "p", "minutes", "memory GiB")


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What one run answered, and what it cost."""

    seed: int
    answers: Answers
    seconds: float
    """Wall time of its epochs and embedding passes."""
    peak_bytes: int | None
    """Most memory that its process had at once; None if that is not known."""

    def labels(self) -> dict[str, str]:
        """The name of the right class by the path of the photograph."""
        labels = next(iter(self.answers.sources.values())).labels
        return {path: self.answers.classes[label] for path, label in zip(self.answers.paths, labels, strict=True)}


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
    deviation: float | None
    """Standard deviation of the accuracy over the seeds; None for a single one."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A comparison on one split; `photographs` counts each of its photographs once."""

    split: str
    reference: str
    photographs: int
    rows: tuple[ComparedRecipe, ...]

    def to_dict(self) -> dict[str, Any]:
        """The document of `mpfgvc compare --json`."""
        rows = [asdict(row) for row in self.rows]
        return {"split": self.split, "reference": self.reference, "photographs": self.photographs, "recipes": rows}


def compared(recipes: Sequence[RecipeResults], *, reference: str, split: str) -> Comparison:
    """The comparison of some recipes, one of which is the reference.

    Raises DataError if they were not tested on the same photographs, seed by seed.
    """
    base = next(recipe for recipe in recipes if recipe.name == reference)
    for recipe in recipes:
        for run, other in zip(recipe.runs, base.runs, strict=True):
            if run.labels() != other.labels():
                rule = f"was tested on other photographs than {base.name} (seed {run.seed})"
                hint = "only recipes with the same data can be compared; remove one of the two"
                raise DataError(f"{recipe.name} {rule}; {hint}")
    paths = sorted({path for run in base.runs for path in run.answers.paths})
    rows = tuple(_row(recipe, base, paths) for recipe in recipes)
    return Comparison(split=split, reference=reference, photographs=len(paths), rows=rows)


def _row(recipe: RecipeResults, base: RecipeResults, paths: Sequence[str]) -> ComparedRecipe:
    right, seen = _right_and_seen(recipe, paths)
    accuracies = tuple(run.answers.sources[recipe.prediction].top1 for run in recipe.runs)
    is_base = recipe.name == base.name
    return ComparedRecipe(
        name=recipe.name,
        prediction=recipe.prediction,
        seeds=tuple(run.seed for run in recipe.runs),
        accuracies=accuracies,
        accuracy=float(right.sum() / seen.sum()),
        interval=accuracy_interval(right, seen),
        difference=None if is_base else paired_difference(right, _right_and_seen(base, paths)[0], seen),
        sources={
            source: float(np.mean([run.answers.sources[source].top1 for run in recipe.runs]))
            for source in recipe.runs[0].answers.sources
        },
        minutes=float(np.mean([run.seconds for run in recipe.runs])) / 60,
        peak_bytes=max((run.peak_bytes for run in recipe.runs if run.peak_bytes is not None), default=None),
        changes=recipe.changes,
        deviation=float(np.std(accuracies, ddof=1)) if len(accuracies) > 1 else None,
    )


def _right_and_seen(recipe: RecipeResults, paths: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How many seeds were right about each photograph, and how many tested it."""
    right, seen = Counter[str](), Counter[str]()
    for run in recipe.runs:
        answers = run.answers
        seen.update(answers.paths)
        is_right = answers.sources[recipe.prediction].right
        right.update(path for path, found in zip(answers.paths, is_right, strict=True) if found)
    return np.array([right[path] for path in paths]), np.array([seen[path] for path in paths])


def write_comparison_files(comparison: Comparison, folder: Path) -> None:
    """Write the three files into a folder, which is made if it is not there. Raises OutputError."""
    make_folder(folder)
    rows = [_all_digits(row) for row in comparison.rows]
    write_text(folder / "table.csv", csv_text([rows[0], *(row.values() for row in rows)]))
    table = [COLUMNS, ("---", *["---:"] * (len(COLUMNS) - 1)), *table_rows(comparison)]
    lines = [f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |\n" for row in table]
    write_text(folder / "table.md", f"{''.join(lines)}\n{caption(comparison)}\n")
    write_text(folder / "comparison.json", json.dumps(comparison.to_dict(), indent=2) + "\n")


def table_rows(comparison: Comparison) -> list[tuple[str, ...]]:
    """The cells of each recipe for people, in the order of COLUMNS; accuracies in percent."""
    return [_cells(row) for row in comparison.rows]


def caption(comparison: Comparison) -> str:
    """What the numbers of a table are, in one paragraph."""
    seeds = ", ".join(map(str, comparison.rows[0].seeds))
    return (
        f"{comparison.photographs} photographs of the {comparison.split} split, seeds {seeds}. sd: over the "
        "seeds. 95 %: bootstrap over photographs (BCa), the spread over seeds is not in it. difference: to "
        f"{comparison.reference}, in points, paired by photograph; p: sign-flip test, two-sided, not "
        "corrected for the number of recipes. minutes: of one training. memory: the most that a process had."
    )


def _cells(row: ComparedRecipe) -> tuple[str, ...]:
    other = row.difference
    paired = ("reference", "", "")
    if other is not None:
        paired = (f"{100 * other.mean:+.1f}", _interval(other.interval, "+.1f"), f"{other.p_value:.2g}")
    return (
        row.name,
        f"{100 * row.accuracy:.1f}",
        "" if row.deviation is None else f"{100 * row.deviation:.1f}",
        _interval(row.interval, ".1f"),
        *paired,
        f"{row.minutes:.1f}",
        "" if row.peak_bytes is None else f"{row.peak_bytes / 2**30:.1f}",
    )


def _interval(interval: Interval, form: str) -> str:
    return f"{100 * interval.low:{form}} to {100 * interval.high:{form}}"


def _all_digits(row: ComparedRecipe) -> dict[str, object]:
    """A row of the CSV: accuracies in 0..1; None where there is no value."""
    other = row.difference
    return {
        **{"recipe": row.name, "prediction": row.prediction, "accuracy": row.accuracy, "deviation": row.deviation},
        **{"low": row.interval.low, "high": row.interval.high},
        "difference": other and other.mean,
        "difference_low": other and other.interval.low,
        "difference_high": other and other.interval.high,
        "p_value": other and other.p_value,
        **{"minutes": row.minutes, "peak_bytes": row.peak_bytes},
        **row.sources,
        **{f"seed_{seed}": accuracy for seed, accuracy in zip(row.seeds, row.accuracies, strict=True)},
    }
