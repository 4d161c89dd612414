"""From whatever a decoder gives to 8-bit RGB, a few rows at a time so that memory stays small.

How many bits a gray value has is often not what its type says: 12 bits may be in 16,
8 bits in 32. The file decides where it speaks (`Depth`). Else the largest value does:

- whole numbers up to 255 are 8 bits, up to 4095 are 12, up to 65535 are 16. A 16-bit
  photograph that uses less than a sixteenth of its range is so brightened, which does no harm.
- floats within 0..1 or within 0..255 keep that range.
- all others are scaled from the darkest to the lightest.

NaN, infinities and "no data" become black: the value that a TIFF names, -9999, and
whatever is beyond 1e30.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

_STRIP_PIXELS = 250_000
_NO_DATA = -9999.0
_BEYOND = 1e30
_WHOLE_RANGES = (255, 4095, 65535)
_FLOAT_RANGES = (1, 255)
_ALPHA = ("RGBA", "LA", "PA", "La", "RGBa")


@dataclass(frozen=True, kw_only=True)
class Depth:
    """What a file says about its values; None where it says nothing."""

    low: float | None = None
    high: float | None = None
    no_data: float | None = None
    unsigned: bool = False
    """Whether the values of a 32-bit image are unsigned; Pillow knows signed ones only."""


NOTHING_SAID = Depth()


def to_rgb(image: Image.Image, depth: Depth = NOTHING_SAID, *, factor: int = 1) -> Image.Image:
    """The image as RGB, transparent parts on white, its sides divided by `factor`."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image if factor == 1 else image.reduce(factor)
    return join_strips(lambda: _strips(image, factor), image.size, depth, factor=factor)


def strip_rows(width: int, factor: int) -> int:
    """Rows to convert at a time: few in memory, and a multiple of `factor`."""
    return factor * max(1, _STRIP_PIXELS // width // factor)


def join_strips(
    strips: Callable[[], Iterable[Image.Image]], size: tuple[int, int], depth: Depth, *, factor: int
) -> Image.Image:
    """The RGB image of (width, height) pixels whose strips of `strip_rows` are given, as often as asked for.

    Its sides are divided by `factor`. Gray values of many bits are gone through twice, first for their range.
    """
    width, height = size
    levels: Levels | None = None
    if _is_deep(next(iter(strips()))):
        levels = _levels(strips(), depth)
    result = Image.new("RGB", (-(-width // factor), -(-height // factor)))
    top = 0
    for strip in strips():
        rgb = _shallow_to_rgb(strip if levels is None else levels.apply(_values(strip, depth)))
        result.paste(rgb if factor == 1 else rgb.reduce(factor), (0, top // factor))
        top += strip.height
    return result


def levels_of(values: np.ndarray) -> Levels:
    """The range of an array of unsigned whole numbers, by the rule for files."""
    return Levels(low=0.0, high=float(_fitting(float(values.max()), _WHOLE_RANGES) or values.max()))


@dataclass(frozen=True, kw_only=True)
class Levels:
    """The values that become 0 and 255."""

    low: float
    high: float

    def apply(self, values: np.ndarray) -> Image.Image:
        """An 8-bit image of values; what is not finite becomes black."""
        if values.dtype == np.uint16:  # a table is several times as fast
            return Image.fromarray(self._scale(np.arange(65536, dtype=np.float64))[values])
        return Image.fromarray(self._scale(np.where(np.isfinite(values), values, self.low)))

    def _scale(self, values: np.ndarray) -> np.ndarray:
        scaled = (values - self.low) / max(self.high - self.low, 1e-12) * 255
        return scaled.round().clip(0, 255).astype(np.uint8)


def _is_deep(image: Image.Image) -> bool:
    return image.mode.startswith("I") or image.mode == "F"


def _strips(image: Image.Image, factor: int) -> Iterator[Image.Image]:
    rows = strip_rows(image.width, factor)
    for top in range(0, image.height, rows):
        yield image.crop((0, top, image.width, min(top + rows, image.height)))


def _shallow_to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in _ALPHA or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _values(strip: Image.Image, depth: Depth) -> np.ndarray:
    """The gray values: uint16 as they are if all are data, else float64 with NaN where there is none."""
    stored = np.asarray(strip)
    if stored.dtype.itemsize == 2 and depth.no_data is None:
        return stored.astype(np.uint16, copy=False)
    if depth.unsigned and stored.dtype == np.int32:
        stored = stored.view(np.uint32)
    values = stored.astype(np.float64)
    if strip.mode in ("I", "F"):
        values[(np.abs(values) > _BEYOND) | (values == _NO_DATA)] = np.nan
    if depth.no_data is not None:
        marker = np.float32(depth.no_data) if strip.mode == "F" else depth.no_data
        values[values == marker] = np.nan
    return values


def _levels(strips: Iterable[Image.Image], depth: Depth) -> Levels:
    low, high, mode = np.inf, -np.inf, ""
    for strip in strips:
        mode = strip.mode
        values = _values(strip, depth)
        finite = values[np.isfinite(values)]
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    if low > high:
        return Levels(low=0.0, high=1.0)  # no data at all: black
    return _stated(depth, low, high) or _guessed(mode, low, high)


def _stated(depth: Depth, low: float, high: float) -> Levels | None:
    """The range that the file states, unless its values contradict it."""
    if depth.high is None:
        return None
    start = depth.low if depth.low is not None else min(0.0, low)
    return Levels(low=start, high=depth.high) if start <= low and high <= depth.high else None


def _guessed(mode: str, low: float, high: float) -> Levels:
    known = _fitting(high, _FLOAT_RANGES if mode == "F" else _WHOLE_RANGES) if low >= 0 else None
    return Levels(low=low, high=high) if known is None else Levels(low=0.0, high=float(known))


def _fitting(high: float, ranges: tuple[int, ...]) -> int | None:
    return next((top for top in ranges if high <= top), None)
