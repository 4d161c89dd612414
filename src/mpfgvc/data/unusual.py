"""Photographs whose size or shape is far from that of the rest."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mpfgvc.data.headers import Header

SIZE_FACTOR = 4.0
"""Reported: a photograph whose mean side is this many times larger or smaller than the median."""
SHAPE_FACTOR = 2.5
"""Reported: a photograph whose width over height is this many times larger or smaller than the median."""


@dataclass(frozen=True, kw_only=True)
class Unusual:
    """A photograph that is far from the rest, and in what."""

    path: str
    reason: str


def unusual_sizes(headers: Mapping[Path, Header]) -> tuple[Unusual, ...]:
    """Photographs whose size is far from that of the rest."""
    sides = {path: (each.height * each.width) ** 0.5 for path, each in headers.items()}
    return _far(sides, headers, SIZE_FACTOR, "the usual mean side is {:.0f}")


def unusual_shapes(headers: Mapping[Path, Header]) -> tuple[Unusual, ...]:
    """Photographs whose shape is far from that of the rest."""
    shapes = {path: each.width / each.height for path, each in headers.items()}
    return _far(shapes, headers, SHAPE_FACTOR, "the usual width over height is {:.2f}")


def _far(
    values: Mapping[Path, float], headers: Mapping[Path, Header], factor: float, usual: str
) -> tuple[Unusual, ...]:
    if not values:
        return ()
    middle = statistics.median(values.values())
    return tuple(
        Unusual(
            path=str(path), reason=f"{headers[path].width} x {headers[path].height}, {usual.format(middle)}"
        )
        for path, value in values.items()
        if not middle / factor < value < middle * factor
    )
