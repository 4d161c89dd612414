"""The body of a bird as coloured polygons: from attributes and a pose to shapes in painter's order.

Units: the bird is about 1 long from beak to tail; x points forward, y down; the origin is the middle of the
body. The outlines (outlines.json) are drawn by hand: points `x,y` as SVG writes them. Curves are closed splines
through them, computed once; a pose moves their points. A shape names the part that it shows, whatever the attribute's
value: where a wing bar is missing is a region, too, as it tells the bird from one with a bar.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mpfgvc.birds.plumage import Plumage

Points = NDArray[np.float64]  # (count, 2)

Color = tuple[float, float, float]  # 0..255

COLORS: dict[str, Color] = {
    "black": (38, 36, 42),
    "white": (240, 238, 230),
    "gray": (138, 142, 150),
    "brown": (126, 84, 50),
    "red": (200, 42, 36),
    "orange": (236, 128, 34),
    "yellow": (244, 208, 52),
    "blue": (54, 104, 190),
    "green": (92, 134, 62),
    "pink": (232, 146, 156),
}
"""What the words for colours mean."""

_OUTLINES = json.loads(Path(__file__).with_name("outlines.json").read_text())
"""`smooth`: points that a closed smooth curve passes through; `straight`: corners of polygons, and where marks sit."""

_STEPS = 4  # from one point of a curve to the next


@dataclass(frozen=True, kw_only=True)
class Pose:
    """How a bird holds itself. Angles in radians, positive = forward and down."""

    tilt: float = 0.0
    head_turn: float = 0.0
    tail_angle: float = 0.0
    wing_droop: float = 0.0
    leg_swing: float = 0.0
    plumpness: float = 1.0
    neck: float = 0.0
    """How far the head is stretched out, in bird lengths."""


class Shape(NamedTuple):
    """One filled polygon; `part` None shows no part, `paint` False marks a region and paints nothing."""

    points: Points
    color: Color = (0, 0, 0)
    opacity: float = 1.0
    part: str | None = None
    paint: bool = True


def bird_shapes(plumage: Plumage, pose: Pose) -> list[Shape]:
    """All shapes of a bird, those behind first."""
    head = _Frame(center=_HEAD, angle=pose.head_turn, shift=(pose.neck * 0.9, -pose.neck * 0.6))
    tail = _Frame(center=_RUMP, angle=pose.tail_angle)
    wing = _Frame(center=_SHOULDER, angle=pose.wing_droop)
    body = _Frame(center=(0.0, 0.02), stretch=pose.plumpness)
    shapes = [
        *_legs(plumage, pose.leg_swing),
        *tail.place(_tail(plumage)),
        *body.place(_body(plumage)),
        *head.place(_head(plumage)),
        *wing.place(_wing(plumage)),
    ]
    whole = _Frame(center=(0.0, 0.0), angle=pose.tilt)
    return list(whole.place(shapes))


@dataclass(frozen=True, kw_only=True)
class _Frame:
    """A turn about a centre, then a shift; `stretch` widens the body across its length."""

    center: tuple[float, float]
    angle: float = 0.0
    shift: tuple[float, float] = (0.0, 0.0)
    stretch: float = 1.0

    def place(self, shapes: Iterable[Shape]) -> Iterator[Shape]:
        """The shapes, moved."""
        cosine, sine = np.cos(self.angle), np.sin(self.angle)
        turn = np.array([[cosine, sine], [-sine * self.stretch, cosine * self.stretch]])
        offset = np.add(self.center, self.shift) - np.array(self.center) @ turn
        return (shape._replace(points=shape.points @ turn + offset) for shape in shapes)


_HEAD = (0.27, -0.25)
_RUMP = (-0.26, 0.10)
_SHOULDER = (0.16, -0.06)
_HIP = (-0.02, 0.20)
_EYE = (0.323, -0.257)
_MARKINGS: dict[str, list[tuple[str, Color]]] = {
    "plain": [],
    "eyebrow": [("eyebrow", (240, 238, 230))],
    "mask": [("mask", (30, 26, 28))],
}
_RINGS: dict[str, list[Color]] = {"none": [], "white": [(250, 250, 246)], "yellow": [(250, 216, 40)]}
_TIPS = {"square": 1, "forked": 2, "pointed": 1, "fan": 1}


def _body(plumage: Plumage) -> list[Shape]:
    belly, back = COLORS[plumage.belly], COLORS[plumage.back]
    return [
        Shape(points=outline("body"), color=belly, part="belly"),
        Shape(points=outline("belly_shade"), color=(20, 24, 40), opacity=0.16),
        *_breast(plumage),
        Shape(points=outline("back"), color=back, part="back"),
        Shape(points=outline("back_light"), color=(255, 255, 255), opacity=0.14),
    ]


def _breast(plumage: Plumage) -> Iterator[Shape]:
    yield Shape(points=outline("breast"), part="breast", paint=False)
    ink = _darker(COLORS["brown"], 0.55)
    if plumage.breast == "banded":
        yield Shape(points=outline("band"), color=ink, part="breast")
    mark = {"spotted": "spot", "streaked": "streak"}.get(plumage.breast)
    if mark is not None:
        for place in outline(f"{mark}_places"):
            yield Shape(points=outline(mark) + place, color=ink, part="breast")


def _head(plumage: Plumage) -> list[Shape]:
    back = COLORS[plumage.back]
    return [
        *_beak(plumage),
        Shape(points=outline("head"), color=_mixed(back, (255, 255, 255), 0.12), part="back"),
        Shape(points=outline("throat"), color=COLORS[plumage.throat], part="throat"),
        Shape(points=outline("crown"), color=COLORS[plumage.crown], part="crown"),
        Shape(points=outline("mask"), part="face", paint=False),
        Shape(points=outline("eyebrow"), part="face", paint=False),
        *[Shape(points=outline(name), color=color, part="face") for name, color in _MARKINGS[plumage.face]],
        Shape(points=circle(*_EYE, 0.036), part="eye", paint=False),
        *[Shape(points=circle(*_EYE, 0.036), color=color, part="eye") for color in _RINGS[plumage.eye_ring]],
        Shape(points=circle(*_EYE, 0.021), color=(14, 12, 14), part="eye"),
        Shape(points=outline("glint"), color=(255, 255, 255), part="eye"),
    ]


def _beak(plumage: Plumage) -> list[Shape]:
    color, name = COLORS[plumage.beak_color], f"beak_{plumage.beak_shape}"
    return [
        Shape(points=outline(name), color=color, part="beak"),
        Shape(points=outline(f"{name}_lower"), color=_darker(color, 0.7), part="beak"),
    ]


def _wing(plumage: Plumage) -> list[Shape]:
    color = COLORS[plumage.wing]
    dark = _darker(color, 0.62)
    bars = {"none": 0, "one": 1, "two": 2}[plumage.wing_bars]
    return [
        Shape(points=outline("wing_edge"), color=_darker(color, 0.5), part="wing"),
        Shape(points=outline("wing"), color=color, part="wing"),
        Shape(points=outline("coverts"), color=_mixed(color, (255, 255, 255), 0.16), part="wing"),
        *[Shape(points=outline(f"feather{index}"), color=dark, part="wing") for index in range(3)],
        *[Shape(points=outline(f"bar{index}"), part="wing bars", paint=False) for index in range(2)],
        *[Shape(points=outline(f"bar{index}"), color=COLORS["white"], part="wing bars") for index in range(bars)],
    ]


def _tail(plumage: Plumage) -> list[Shape]:
    color, shape = _darker(COLORS[plumage.wing], 0.85), plumage.tail_shape
    tip = color if plumage.tail_tip == "plain" else COLORS[plumage.tail_tip]
    return [
        Shape(points=outline(f"tail_{shape}"), color=color, part="tail"),
        *[
            Shape(points=outline(f"tail_{shape}_tip{index}"), color=tip, part="tail tip")
            for index in range(_TIPS[shape])
        ],
        Shape(points=outline("tail_line"), color=_darker(color, 0.6), part="tail"),
    ]


def _legs(plumage: Plumage, swing: float) -> Iterator[Shape]:
    """The far leg, then the near one."""
    for offset, brightness in ((0.07, 0.75), (0.0, 1.0)):
        color = _darker(COLORS[plumage.legs], brightness)
        leg = [Shape(points=outline(name), color=color, part="legs") for name in ("shank", "toes")]
        yield from _Frame(center=_HIP, angle=swing, shift=(offset, 0.0)).place(leg)


def _darker(color: Color, factor: float) -> Color:
    red, green, blue = color
    return red * factor, green * factor, blue * factor


def _mixed(color: Color, other: Color, share: float) -> Color:
    red, green, blue = (a + (b - a) * share for a, b in zip(color, other, strict=True))
    return red, green, blue


@cache
def outline(name: str) -> Points:
    """The polygon of an outline."""
    straight = _OUTLINES["straight"]
    return _points(straight[name]) if name in straight else _closed_curve(_points(_OUTLINES["smooth"][name]))


@cache
def circle(x: float, y: float, radius: float) -> Points:
    """A polygon of 16 corners."""
    angles = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    return np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], axis=1)


def _points(text: str) -> Points:
    return np.array([[float(number) for number in pair.split(",")] for pair in text.split()])


def _closed_curve(points: Points) -> Points:
    """A Catmull-Rom spline through the points."""
    before, after, beyond = (np.roll(points, shift, axis=0) for shift in (1, -1, -2))
    t = (np.arange(_STEPS) / _STEPS)[:, None, None]
    curve = 2 * points + (after - before) * t
    curve = curve + (2 * before - 5 * points + 4 * after - beyond) * t**2
    curve = curve + (3 * points - before - 3 * after + beyond) * t**3
    return (curve / 2).swapaxes(0, 1).reshape(-1, 2)
