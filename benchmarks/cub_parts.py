"""The parts and boxes of CUB-200-2011, in the patches that a tower sees.

`parts/part_locs.txt` has a line `image part x y visible` for each part of each photograph,
`bounding_boxes.txt` a line `image x y width height`; both in pixels of the photograph on disk.
"""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mpfgvc.data.preprocessing import Preprocessing, points_in_view
from mpfgvc.data.readers.index_files import read_lines, read_pairs

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Annotation:
    """What is known of a photograph, in its pixels."""

    parts: Floats
    """y and x of each visible part: (parts, 2)."""
    box: Floats
    """y and x of the box's top left, then of its bottom right corner: (2, 2)."""


@dataclass(frozen=True, kw_only=True)
class PatchGrid:
    """Patches of a prepared photograph: `grid` is how many rows and columns of them."""

    preprocessing: Preprocessing
    grid: tuple[int, int]

    def parts(self, annotation: Annotation, shape: tuple[int, int]) -> Floats:
        """How many visible parts lie in each patch (patches,), without those that the crop cuts away.

        `shape` is the (height, width) of the photograph.
        """
        points = points_in_view(annotation.parts, shape, self.preprocessing)
        cells = np.floor(points / self._patch).astype(int)
        cells = cells[((cells >= 0) & (cells < self.grid)).all(axis=1)]
        counts = np.zeros(self.grid)
        np.add.at(counts, (cells[:, 0], cells[:, 1]), 1)
        return counts.ravel()

    def box(self, annotation: Annotation, shape: tuple[int, int]) -> Floats:
        """How many pixels of the box lie in each patch (patches,), without those that the crop cuts away."""
        first, last = points_in_view(annotation.box, shape, self.preprocessing)
        rows, columns = (_overlap(first[axis], last[axis], self._patch[axis], self.grid[axis]) for axis in (0, 1))
        return np.outer(rows, columns).ravel()

    @property
    def _patch(self) -> Floats:
        return np.divide(self.preprocessing.image_size, self.grid)


def read_annotations(root: Path) -> dict[Path, Annotation]:
    """The parts and the box of each photograph of CUB, by its path."""
    parts: dict[str, list[list[float]]] = defaultdict(list)
    for _, line in read_lines(root / "parts" / "part_locs.txt"):
        image, _, x, y, visible = line.split()
        if visible == "1":
            parts[image].append([float(y), float(x)])
    boxes = read_pairs(root / "bounding_boxes.txt")
    return {
        root / "images" / path: Annotation(parts=np.array(parts[image]).reshape(-1, 2), box=_corners(boxes[image]))
        for image, path in read_pairs(root / "images.txt").items()
    }


def _corners(line: str) -> Floats:
    x, y, width, height = map(float, line.split())
    return np.array([[y, x], [y + height, x + width]])


def _overlap(first: float, last: float, side: float, count: int) -> Floats:
    """How much of the interval from `first` to `last` lies in each of `count` intervals of this length."""
    starts = side * np.arange(count)
    return (np.minimum(last, starts + side) - np.maximum(first, starts)).clip(min=0)
