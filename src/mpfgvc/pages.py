"""Pages as one HTML file: a template of jinja2 with the shared style, its photographs and its charts inside.

Nothing on a page is fetched from anywhere. Templates, styles and scripts lie in the package, and are named by
their path in it, such as `templates/page.css`.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

from PIL import Image

QUALITY = 70
"""Of the JPEGs on a page."""
LEFT, RIGHT, TOP, BOTTOM = 44, 350, 10, 190
"""Of the area of the curves, in a drawing of 360 x 230 pixels that a page scales."""
_STYLES = ("first", "second", "third")
_STEPS = (1, 2, 5, 10)

Point = tuple[float, float]


def render(template: str, **values: Any) -> str:
    """The page of a template, such as `evaluation/report_page.html.j2`. Values are escaped."""
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, loader=jinja2.FunctionLoader(_read)
    )
    as_it_is: Callable[[str], Markup] = lambda name: Markup(_read(name))  # noqa: E731, S704  # our own files
    environment.globals["as_it_is"] = as_it_is
    return environment.get_template(template).render(values)


def _read(name: str) -> str:
    return files("mpfgvc").joinpath(name).read_text(encoding="utf-8")


@dataclass
class Album:
    """The photographs of a page by a key, once each: small JPEGs, as many as fit in a number of bytes."""

    most_bytes: int
    """Of all the JPEGs together; in a page they take a third more."""
    side: int
    """Longer side in pixels."""
    addresses: dict[Hashable, str] = field(default_factory=dict)
    """`data:` addresses for the attribute `src`, in the order in which the photographs were added."""
    size: int = 0
    left_out: set[Hashable] = field(default_factory=set)
    """Those for which there was no room."""
    unreadable: set[Hashable] = field(default_factory=set)

    def add(self, key: Hashable, draw: Callable[[], Image.Image | None]) -> str | None:
        """The address of a photograph, if there is room for it.

        `draw` makes it, and gives None if it cannot be read.
        """
        if key in self.addresses:
            return self.addresses[key]
        if self.size >= self.most_bytes:
            self.left_out.add(key)
        elif (picture := draw()) is None:
            self.unreadable.add(key)
        else:
            small, content = picture.convert("RGB"), io.BytesIO()
            small.thumbnail((self.side, self.side), Image.Resampling.LANCZOS)
            small.save(content, format="JPEG", quality=QUALITY, optimize=True)
            self.size += content.tell()
            self.addresses[key] = f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}"
        return self.addresses.get(key)


@dataclass(frozen=True)
class Scale:
    """The axis of a chart from `low` to `high`, with marks at round numbers, four to ten of them."""

    low: float
    high: float
    whole: bool = False
    """Whether only whole numbers are marked."""

    def share(self, value: float) -> float:
        """Where a value is: 0 at `low`, 1 at `high`."""
        return (value - self.low) / (self.high - self.low)

    @property
    def ticks(self) -> list[float]:
        """The round numbers on the axis."""
        quarter = (self.high - self.low) / 4
        power = 10.0 ** math.floor(math.log10(quarter))
        step = max(factor * power for factor in _STEPS if factor * power <= quarter)
        step = max(1.0, step) if self.whole else step
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return [round(number * step, 10) for number in range(first, last + 1)]


@dataclass(frozen=True)
class Curve:
    """Points that are joined, and their name."""

    name: str
    points: tuple[Point, ...]


@dataclass(frozen=True, kw_only=True)
class LineChart:
    """At most three curves over one axis, drawn by `templates/line_chart.html.j2`.

    `says` tells in words what can be seen, for those who cannot see it.
    """

    title: str
    x_name: str
    curves: tuple[Curve, ...] = ()
    x: Scale = Scale(0, 100)
    y: Scale
    says: str = ""

    @property
    def styles(self) -> list[tuple[Curve, str]]:
        """The curves with the class of their style: colour and dashes."""
        return list(zip(self.curves, _STYLES, strict=False))

    def left(self, value: float) -> float:
        """The pixel of a value of x."""
        return round(LEFT + (RIGHT - LEFT) * self.x.share(value), 1)

    def top(self, value: float) -> float:
        """The pixel of a value of y."""
        return round(BOTTOM - (BOTTOM - TOP) * self.y.share(value), 1)

    def line(self, points: Sequence[Point]) -> str:
        """The attribute `points` of a line."""
        return " ".join(f"{self.left(x)},{self.top(y)}" for x, y in points)
