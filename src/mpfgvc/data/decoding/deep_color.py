"""Colors of 16 bits a channel that use only 8 or 12 of them.

Pillow keeps the upper byte of each channel, so 12 bits would be nearly black. So an image whose
upper bytes are all below 16 is decoded once more for its lower bytes, and its range is found
by the rule for gray images (pixels.py).
"""

from __future__ import annotations

import sys

import numpy as np
from PIL import Image, ImageFile

from mpfgvc.data.decoding.pixels import levels_of

MOST_DEEP_PIXELS = 15_000_000
"""Larger ones stay as dark as Pillow gives them: both decodings at once would take too much memory."""
_NATIVE, _FOREIGN = ("L", "B") if sys.byteorder == "little" else ("B", "L")
_SWAPPED = {
    f"{mode};16{one}": f"{mode};16{other}"
    for mode in ("RGB", "RGBA")
    for one, other in (("B", "L"), ("L", "B"), ("N", _FOREIGN))
}
_DARK = 16
Tiles = list[ImageFile._Tile]


def lower_byte_tiles(image: Image.Image) -> Tiles | None:
    """How to decode the lower bytes of an image that is not yet loaded; None if it has 8 bits a channel."""
    tiles: Tiles = getattr(image, "tile", [])
    if image.width * image.height > MOST_DEEP_PIXELS or not tiles:
        return None
    swapped: Tiles = []
    for tile in tiles:
        parts = (tile.args,) if isinstance(tile.args, str) else tile.args or ()
        raw = str(parts[0]) if parts else ""
        if raw not in _SWAPPED:
            return None
        args = _SWAPPED[raw] if isinstance(tile.args, str) else (_SWAPPED[raw], *parts[1:])
        swapped.append(tile._replace(args=args))
    return swapped


def is_dark(image: Image.Image) -> bool:
    """Whether the upper bytes of all colors leave room for more bits."""
    return max(int(np.asarray(band).max()) for band in image.split()[:3]) < _DARK


def join_bytes(upper: Image.Image, lower: Image.Image) -> Image.Image:
    """The 8-bit image of both bytes of each color; transparency stays as it is."""
    colors = [
        np.asarray(high).astype(np.uint16) * 256 + np.asarray(low)
        for high, low in zip(upper.split()[:3], lower.split()[:3], strict=True)
    ]
    levels = levels_of(np.array([channel.max() for channel in colors]))
    return Image.merge(upper.mode, [*(levels.apply(channel) for channel in colors), *upper.split()[3:]])
