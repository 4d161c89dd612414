"""A chart of curves, drawn as SVG by `line_chart.html.j2`: at most three, told apart by colour and dashes."""

from collections.abc import Sequence
from dataclasses import dataclass

from mpfgvc.pages.scale import Scale

WIDTH, HEIGHT = 360, 230
"""Of the drawing, in its own pixels; a page scales it."""
LEFT, RIGHT, TOP, BOTTOM = 44, 350, 10, 190
"""Of the area of the curves."""
_STYLES = ("first", "second", "third")

Point = tuple[float, float]


@dataclass(frozen=True)
class Curve:
    """Points that are joined, and their name."""

    name: str
    points: tuple[Point, ...]


@dataclass(frozen=True, kw_only=True)
class LineChart:
    """Curves over one axis; `says` tells in words what can be seen, for those who cannot see it."""

    title: str
    x_name: str
    curves: tuple[Curve, ...]
    x: Scale
    y: Scale
    says: str

    @property
    def styles(self) -> list[tuple[Curve, str]]:
        """Each curve with the class of its style."""
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
