"""A comparison as one HTML page without scripts or other files: charts as inline SVG, then the table.

The names stand in the page's own text and the marks in one SVG for each recipe, whose places are in percent.
So the charts fit any width, and their text has the size of the page's, on a telephone, too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from mpfgvc.errors import ConfigError
from mpfgvc.evaluation.comparison import Comparison
from mpfgvc.evaluation.comparison_table import COLUMNS, caption, table_rows
from mpfgvc.evaluation.statistics import Interval

_STEPS = (1, 2, 5, 10)


@dataclass(frozen=True)
class Scale:
    """An axis from `low` to `high`, with marks at round numbers, four to ten of them."""

    low: float
    high: float

    @classmethod
    def over(cls, values: Sequence[float]) -> Scale:
        """The axis that shows all the values, with some room on both sides."""
        low, high = min(values), max(values)
        room = 0.06 * (high - low) or 1.0
        return cls(low - room, high + room)

    def place(self, value: float) -> str:
        """Where a value is, in percent of the width."""
        return f"{100 * (value - self.low) / (self.high - self.low):.2f}%"

    @property
    def ticks(self) -> list[float]:
        """The round numbers on the axis."""
        power = 10.0 ** math.floor(math.log10((self.high - self.low) / 4))
        step = max(each * power for each in _STEPS if each * power <= (self.high - self.low) / 4)
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return [round(number * step, 10) for number in range(first, last + 1)]


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
    jinja2 = _jinja2()
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = files("mpfgvc.evaluation").joinpath("comparison_page.html.j2").read_text(encoding="utf-8")
    page: str = environment.from_string(template).render(
        comparison=comparison,
        charts=[chart for chart in _charts(comparison) if chart.marks],
        columns=COLUMNS,
        rows=table_rows(comparison),
        caption=caption(comparison),
    )
    return page


def refuse_missing_jinja2() -> None:
    """Raise ConfigError if jinja2 is not installed, before anything is trained in vain."""
    _jinja2()


def _jinja2() -> Any:
    try:
        import jinja2
    except ImportError:
        raise ConfigError("a comparison needs jinja2 for its page: pip install 'mpfgvc[compare]'") from None
    return jinja2


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
