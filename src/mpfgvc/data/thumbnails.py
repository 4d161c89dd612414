"""Small gray pictures of many photographs, to compare them by: 2.3 kB each, whatever the files are.

Every photograph is decoded once, as small as its format allows, on all cores. So memory is bounded by the
thumbnails and by the few photographs that are being decoded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageStat

from mpfgvc.data.images import read_image
from mpfgvc.errors import DataError
from mpfgvc.processes import core_count

SIDE = 48
"""Height and width of a thumbnail in pixels; the shape of the photograph is not kept."""
_LOOKED_AT = (64, 64)
_AHEAD = 2048

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Thumbnails:
    """`pixels` (photographs, SIDE, SIDE), gray levels 0..255; `contrast` is their standard deviation."""

    paths: tuple[Path, ...]
    pixels: Pixels
    contrast: NDArray[np.float32]
    broken: Mapping[Path, str]
    """Why a photograph could not be decoded; such photographs are not in `paths`."""


def take_thumbnails(paths: Sequence[Path]) -> Thumbnails:
    """Decode photographs and shrink them."""
    pixels = np.zeros((len(paths), SIDE, SIDE), dtype=np.uint8)
    contrast = np.zeros(len(paths), dtype=np.float32)
    taken: list[Path] = []
    broken: dict[Path, str] = {}
    with ThreadPoolExecutor(max_workers=core_count()) as pool:
        for start in range(0, len(paths), _AHEAD):
            part = paths[start : start + _AHEAD]
            for path, seen in zip(part, pool.map(_look, part), strict=True):
                if isinstance(seen, str):
                    broken[path] = seen
                else:
                    pixels[len(taken)], contrast[len(taken)] = seen
                    taken.append(path)
    count = len(taken)
    return Thumbnails(paths=tuple(taken), pixels=pixels[:count], contrast=contrast[:count], broken=broken)


def thumbnail(image: Image.Image) -> Pixels:
    """The thumbnail of an image. (SIDE, SIDE)"""
    return np.asarray(image.convert("L").resize((SIDE, SIDE), Image.Resampling.LANCZOS))


def _look(path: Path) -> tuple[Pixels, float] | str:
    """The thumbnail and the standard deviation of the gray levels, or why there is none."""
    try:
        gray = read_image(path, at_least=_LOOKED_AT).convert("L")
    except DataError as error:
        return str(error)
    return thumbnail(gray), float(ImageStat.Stat(gray).stddev[0])
