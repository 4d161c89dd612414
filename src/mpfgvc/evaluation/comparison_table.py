"""A comparison as a table: its cells for people, Markdown, and CSV with all digits."""

import csv
import io
from collections.abc import Sequence

from mpfgvc.evaluation.comparison import ComparedRecipe, Comparison
from mpfgvc.evaluation.statistics import Interval

COLUMNS = ("recipe", "top-1 %", "sd", "95 %", "difference", "95 % of it", "p", "minutes", "memory GiB")


def table_rows(comparison: Comparison) -> list[tuple[str, ...]]:
    """The cells of each recipe for people, in the order of COLUMNS; accuracies in percent."""
    return [_cells(row) for row in comparison.rows]


def comparison_markdown(comparison: Comparison) -> str:
    """A table, and below it what its columns mean."""
    lines = [COLUMNS, ("---", *["---:"] * (len(COLUMNS) - 1)), *table_rows(comparison)]
    table = "".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |\n" for line in lines)
    return f"{table}\n{caption(comparison)}\n"


def caption(comparison: Comparison) -> str:
    """What the numbers of a table are, in one paragraph."""
    seeds = ", ".join(map(str, comparison.rows[0].seeds))
    return (
        f"{comparison.photographs} photographs of the {comparison.split} split, seeds {seeds}. sd: over the "
        "seeds. 95 %: bootstrap over photographs (BCa), the spread over seeds is not in it. difference: to "
        f"{comparison.reference}, in points, paired by photograph; p: sign-flip test, two-sided, not "
        "corrected for the number of recipes. minutes: of one training. memory: the most that a process had."
    )


def comparison_csv(comparison: Comparison) -> str:
    """A row for each recipe, accuracies in 0..1 with all digits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    sources = list(comparison.rows[0].sources)
    writer.writerow(
        ["recipe", "prediction", "accuracy", "deviation", "low", "high", "difference", "difference_low"]
        + ["difference_high", "p_value", "minutes", "peak_bytes", *sources]
        + [f"seed_{seed}" for seed in comparison.rows[0].seeds]
    )
    writer.writerows(_csv_row(row) for row in comparison.rows)
    return text.getvalue()


def _csv_row(row: ComparedRecipe) -> Sequence[object]:
    """Empty where there is no value."""
    other = row.difference
    paired = ["", "", "", ""]
    if other is not None:
        paired = [repr(each) for each in (other.mean, other.interval.low, other.interval.high, other.p_value)]
    return [
        *(row.name, row.prediction, row.accuracy, row.deviation),
        *(row.interval.low, row.interval.high, *paired, row.minutes, row.peak_bytes),
        *row.sources.values(),
        *row.accuracies,
    ]


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
