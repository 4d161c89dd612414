"""A comparison as one HTML page without scripts or other files: charts as inline SVG, then the table.

The names stand in the page's own text and the marks in one SVG for each recipe, whose places are in percent.
So the charts fit any width, and their text has the size of the page's, on a telephone, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mpfgvc.errors import ConfigError
from mpfgvc.evaluation.comparison import Comparison
from mpfgvc.evaluation.comparison_table import COLUMNS, caption, table_rows
from mpfgvc.evaluation.statistics import Interval
from mpfgvc.pages.render import missing, render
from mpfgvc.pages.scale import Scale


@dataclass(frozen=True, kw_only=True)
class Mark:
    """One recipe in a chart: a value with its interval, and smaller dots, such as those of the seeds."""

    name: str
    value: float
    text: str
    interval: Interval | None = None
    dots: tuple[float, ...] = ()
    is_reference: bool = False


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A row for each recipe over one axis; `zero` draws a line at 0, `bars` fills from 0 to the value."""

    title: str
    note: str
    scale: Scale
    marks: tuple[Mark, ...]
    zero: bool = False
    bars: bool = False


def comparison_page(comparison: Comparison) -> str:
    """The whole page. Raises ConfigError if jinja2 is not installed."""
    return render(
        "evaluation/comparison_page.html.j2",
        "the page of a comparison",
        comparison=comparison,
        charts=[chart for chart in _charts(comparison) if chart.marks],
        columns=COLUMNS,
        rows=table_rows(comparison),
        caption=caption(comparison),
    )


def refuse_missing_jinja2() -> None:
    """Raise ConfigError if jinja2 is not installed, before anything is trained in vain."""
    if (reason := missing("jinja2")) is not None:
        raise ConfigError(f"a comparison needs for its page {reason}")


def _charts(comparison: Comparison) -> list[Chart]:
    return [_accuracies(comparison), _differences(comparison), _minutes(comparison)]


def _accuracies(comparison: Comparison) -> Chart:
    marks = tuple(
        Mark(
            name=row.name,
            value=100 * row.accuracy,
            text=f"{100 * row.accuracy:.1f}",
            interval=_percent(row.interval),
            dots=tuple(100 * accuracy for accuracy in row.accuracies),
            is_reference=row.name == comparison.reference,
        )
        for row in comparison.rows
    )
    note = "Top-1 in percent, with its 95 % interval over photographs. Small dots: single seeds."
    return Chart(title="Accuracy", note=note, scale=_scale(marks), marks=marks)


def _differences(comparison: Comparison) -> Chart:
    marks = tuple(
        Mark(
            name=row.name,
            value=100 * row.difference.mean,
            text=f"{100 * row.difference.mean:+.1f}",
            interval=_percent(row.difference.interval),
        )
        for row in comparison.rows
        if row.difference is not None
    )
    title = f"Difference to {comparison.reference}"
    note = "In points, paired by photograph, with its 95 % interval. One that crosses the line can be chance."
    return Chart(title=title, note=note, scale=_scale(marks, 0.0), marks=marks, zero=True)


def _minutes(comparison: Comparison) -> Chart:
    marks = tuple(
        Mark(
            name=row.name,
            value=row.minutes,
            text=f"{row.minutes:.1f}",
            is_reference=row.name == comparison.reference,
        )
        for row in comparison.rows
    )
    most = max(mark.value for mark in marks) or 1.0
    note = "Wall time of one training."
    return Chart(title="Minutes", note=note, scale=Scale(0, 1.02 * most), marks=marks, bars=True)


def _scale(marks: Sequence[Mark], *more: float) -> Scale:
    values = [mark.value for mark in marks] + [dot for mark in marks for dot in mark.dots] + list(more)
    for mark in marks:
        values += [] if mark.interval is None else [mark.interval.low, mark.interval.high]
    return Scale.over(values or [0.0])


def _percent(interval: Interval) -> Interval:
    return Interval(100 * interval.low, 100 * interval.high)
