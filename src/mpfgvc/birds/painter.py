"""Fills polygons: colours on a picture, and part numbers on its region map.

Both get the same polygons in the same order, so the map holds, for each pixel,
the part that is on top there, and 0 where a twig covers it.
"""

from __future__ import annotations

from collections.abc import Iterable

import aggdraw
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mpfgvc.birds.anatomy import Shape
from mpfgvc.birds.outlines import Points
from mpfgvc.birds.plumage import PARTS

_NUMBER = {part: number for number, part in enumerate(PARTS, start=1)}


def paint(picture: Image.Image, shapes: Iterable[Shape], matrix: Points) -> Image.Image:
    """The picture with the shapes on it. `matrix` (3, 2) takes [x, y, 1] to pixels."""
    canvas = aggdraw.Draw(picture)
    for shape in shapes:
        if shape.paint:
            red, green, blue = (min(255, max(0, int(value))) for value in shape.color)
            brush = aggdraw.Brush((red, green, blue), int(255 * shape.opacity))
            canvas.polygon(_pixels(shape.points, matrix), None, brush)
    canvas.flush()
    return picture


def paint_regions(size: int, shapes: Iterable[Shape], matrix: Points) -> NDArray[np.uint8]:
    """The region map (size, size): 1 + the index in PARTS of the part on top, 0 elsewhere."""
    regions = Image.new("L", (size, size), 0)
    canvas = aggdraw.Draw(regions)
    canvas.setantialias(False)
    for shape in shapes:
        if shape.part is not None or (shape.opacity == 1 and shape.paint):
            number = 0 if shape.part is None else _NUMBER[shape.part]
            canvas.polygon(_pixels(shape.points, matrix), None, aggdraw.Brush((number, number, number)))
    canvas.flush()
    return np.asarray(regions)


def _pixels(points: Points, matrix: Points) -> list[float]:
    pixels: list[float] = (points @ matrix[:2] + matrix[2]).ravel().tolist()
    return pixels
