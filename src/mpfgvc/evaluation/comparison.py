"""Several recipes, each trained with several seeds, side by side: accuracies, intervals, differences, cost.

Every recipe is compared with a reference on the same photographs, one by one (statistics.py). What a recipe
answers with is its own `model.prediction`; the accuracies of all three sources stand beside it.

On disk a comparison is `table.csv` (all digits), `table.md`, `comparison.json`, and `index.html`, a page
with charts and without scripts: the names stand in its own text and the marks in one SVG for each recipe,
positioned in percent. So the charts fit any width, and their text has the size of the page's.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mpfgvc.errors import DataError
from mpfgvc.evaluation.metrics import Answers
from mpfgvc.evaluation.statistics import Difference, Interval, accuracy_interval, paired_difference
from mpfgvc.files import make_folder, write_text
from mpfgvc.pages import Scale, render
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
        return {"split": self.split, "reference": self.reference, "photographs": self.photographs, "recipes": rows}


def compared(recipes: Sequence[RecipeResults], *, reference: str, split: str) -> Comparison:
    """The comparison of some recipes, one of which is the reference.

    Raises DataError if they were not tested on the same photographs, seed by seed.
    """
    base = next(recipe for recipe in recipes if recipe.name == reference)
    for recipe in recipes:
        _refuse_other_photographs(recipe, base)
    paths = sorted({path for run in base.runs for path in run.answers.paths})
    return Comparison(
        split=split,
        reference=reference,
        photographs=len(paths),
        rows=tuple(_row(recipe, base, paths) for recipe in recipes),
    )


def _row(recipe: RecipeResults, base: RecipeResults, paths: Sequence[str]) -> ComparedRecipe:
    seen, right = _seen(recipe, paths), _right(recipe, paths)
    memory = [run.peak_bytes for run in recipe.runs if run.peak_bytes is not None]
    is_base = recipe.name == base.name
    return ComparedRecipe(
        name=recipe.name,
        prediction=recipe.prediction,
        seeds=tuple(run.seed for run in recipe.runs),
        accuracies=tuple(run.answers.sources[recipe.prediction].top1 for run in recipe.runs),
        accuracy=float(right.sum() / seen.sum()),
        interval=accuracy_interval(right, seen),
        difference=None if is_base else paired_difference(right, _right(base, paths), seen),
        sources={
            source: float(np.mean([run.answers.sources[source].top1 for run in recipe.runs]))
            for source in recipe.runs[0].answers.sources
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
        right = run.answers.sources[recipe.prediction].right
        counts.update(path for path, is_right in zip(run.answers.paths, right, strict=True) if is_right)
    return np.array([counts[path] for path in paths])


def _refuse_other_photographs(recipe: RecipeResults, base: RecipeResults) -> None:
    for run, other in zip(recipe.runs, base.runs, strict=True):
        if run.labels() != other.labels():
            rule = f"was tested on other photographs than {base.name} (seed {run.seed})"
            hint = "only recipes with the same data can be compared; remove one of the two"
            raise DataError(f"{recipe.name} {rule}; {hint}")


def write_comparison_files(comparison: Comparison, folder: Path) -> None:
    """Write the four files into a folder, which is made if it is not there. Raises OutputError."""
    make_folder(folder)
    write_text(folder / "table.csv", _csv(comparison))
    rows = [COLUMNS, ("---", *["---:"] * (len(COLUMNS) - 1)), *table_rows(comparison)]
    lines = [f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |\n" for row in rows]
    write_text(folder / "table.md", f"{''.join(lines)}\n{caption(comparison)}\n")
    write_text(folder / "comparison.json", json.dumps(comparison.to_dict(), indent=2) + "\n")
    page = render(
        "evaluation/comparison_page.html.j2",
        comparison=comparison,
        charts=[chart for chart in _charts(comparison) if chart.marks],
        columns=COLUMNS,
        rows=table_rows(comparison),
        caption=caption(comparison),
    )
    write_text(folder / "index.html", page)


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


def _csv(comparison: Comparison) -> str:
    """A row for each recipe, accuracies in 0..1 with all digits; empty where there is no value."""
    rows = []
    for row in comparison.rows:
        other = row.difference
        paired = ("", "", "", "")
        if other is not None:
            paired = (other.mean, other.interval.low, other.interval.high, other.p_value)  # type: ignore[assignment]
        names = ("difference", "difference_low", "difference_high", "p_value")
        rows.append(
            {
                **{"recipe": row.name, "prediction": row.prediction, "accuracy": row.accuracy},
                **{"deviation": row.deviation, "low": row.interval.low, "high": row.interval.high},
                **dict(zip(names, paired, strict=True)),
                **{"minutes": row.minutes, "peak_bytes": row.peak_bytes},
                **row.sources,
                **{f"seed_{seed}": accuracy for seed, accuracy in zip(row.seeds, row.accuracies, strict=True)},
            }
        )
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


class Mark(NamedTuple):
    """One recipe in a chart: a value with its interval, and smaller dots, such as those of the seeds."""

    name: str
    value: float
    text: str
    interval: Interval | None = None
    dots: tuple[float, ...] = ()
    is_reference: bool = False


class Chart(NamedTuple):
    """A row for each recipe over one axis; `zero` draws a line at 0, `bars` fills from 0 to the value."""

    title: str
    note: str
    scale: Scale
    marks: tuple[Mark, ...]
    zero: bool = False
    bars: bool = False


def _charts(comparison: Comparison) -> list[Chart]:
    """Accuracies and differences in percent, and minutes."""
    accuracies, differences, minutes = [], [], []
    for row in comparison.rows:
        is_reference, accuracy, other = row.name == comparison.reference, 100 * row.accuracy, row.difference
        dots = tuple(100 * single for single in row.accuracies)
        interval = _percent(row.interval)
        accuracies.append(Mark(row.name, accuracy, f"{accuracy:.1f}", interval, dots, is_reference))
        minutes.append(Mark(row.name, row.minutes, f"{row.minutes:.1f}", is_reference=is_reference))
        if other is not None:
            mean = 100 * other.mean
            differences.append(Mark(row.name, mean, f"{mean:+.1f}", _percent(other.interval)))
    note = "Top-1 in percent, with its 95 % interval over photographs. Small dots: single seeds."
    paired = "In points, paired by photograph, with its 95 % interval. One that crosses the line can be chance."
    title, most = f"Difference to {comparison.reference}", max(mark.value for mark in minutes) or 1.0
    return [
        Chart("Accuracy", note, _scale(accuracies), tuple(accuracies)),
        Chart(title, paired, _scale(differences, 0.0), tuple(differences), zero=True),
        Chart("Minutes", "Wall time of one training.", Scale(0, 1.02 * most), tuple(minutes), bars=True),
    ]


def _scale(marks: Sequence[Mark], *more: float) -> Scale:
    values = [value for mark in marks for value in (mark.value, *mark.dots)] + list(more)
    values += [end for mark in marks if mark.interval for end in (mark.interval.low, mark.interval.high)]
    return Scale.over(values)


def _percent(interval: Interval) -> Interval:
    return Interval(100 * interval.low, 100 * interval.high)
