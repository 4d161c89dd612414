"""How much memory reading a photograph takes, known from its header; what takes too much is refused.

Pillow decodes an image as a whole; only its JPEG decoder can scale while it decodes. So the number of
pixels that can be read depends on the format and on the mode. Measured: no photograph that passes takes
more than `MOST_MEMORY` above what the process had.
"""

from __future__ import annotations

from PIL import Image

MOST_MEMORY = 200_000_000
"""Bytes while a photograph is read for a model. Most photographs take a tenth of it."""
MOST_WHOLE_MEMORY = 1_000_000_000
"""The same where a caller wants every pixel of it."""
MOST_PIXELS = 1_000_000_000
MOST_ELONGATED = 40
"""How many times as long as wide a photograph may be; panoramas reach 10."""
_STORED = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2}
"""Bytes of a pixel in Pillow's memory; 4 for all other modes."""
_EXTRA = {"WEBP": 11, "AVIF": 8, "JPEG2000": 14}
"""Bytes of a pixel that a decoder takes beside the image, as measured, rounded up."""
_READ_WHOLE = ("WEBP", "AVIF")
_ORIENTATION, _ROWS_PER_STRIP, _TILE_WIDTH, _TILE_LENGTH, _BITS = 274, 278, 322, 323, 258
STRIP_BYTES = 100_000_000
"""The most that decoding strip by strip takes."""
_BEYOND = 10_000_000  # blocks of a file, strips that are converted, tables of a decoder


def refuse_shape(width: int, height: int) -> None:
    """Refuse an image without pixels, with too many, or of an extreme shape, with a ValueError."""
    if width == 0 or height == 0:
        raise ValueError("it has no pixels")
    if width * height > MOST_PIXELS:
        raise ValueError(
            f"{width * height / 1e6:.0f} megapixels are more than {MOST_PIXELS // 10**6}; scale it down"
        )
    if max(width, height) > MOST_ELONGATED * min(width, height):
        raise ValueError(
            f"its shape of {width} x {height} pixels is more elongated than {MOST_ELONGATED} : 1; crop it"
        )


def decoding_bytes(image: Image.Image, *, file_size: int, coefficients: int) -> int:
    """Memory that Pillow takes to decode an image; `image` has its header read, and its draft chosen."""
    pixels = image.width * image.height
    name = image.format or ""
    needed = pixels * (_STORED.get(image.mode, 4) + _EXTRA.get(name, 0)) + coefficients + _BEYOND
    if name in _READ_WHOLE:
        needed += 2 * file_size
    if name == "TIFF":
        needed += _tiff_bytes(image)
    return needed


def reading_bytes(image: Image.Image, decoding: int, *, factor: int, turned: bool) -> int:
    """Memory that reading takes at its peak, and the first step of a transform after it.

    `decoding` is that of the decoder, `factor` how far the result is reduced, `turned`
    whether it is turned upright after that.
    """
    pixels = (image.width // factor) * (image.height // factor)
    converted = factor > 1 or image.mode != "RGB"
    made = 4 * pixels * (converted + turned)
    copied = _BEYOND + (4 + 3) * pixels  # the result, and its pixels as an array
    return max(decoding + made, copied)


def refuse_memory(size: tuple[int, int], kind: str, needed: int, most: int) -> None:
    """Refuse an image of (width, height) pixels that takes more than `most` bytes, with a ValueError."""
    if needed > most:
        raise ValueError(
            f"reading its {size[0]} x {size[1]} pixels as {kind} takes {needed / 1e6:.0f} MB, "
            f"more than the {most / 1e6:.0f} MB allowed; scale it down, or save it as a baseline JPEG"
        )


def _tiff_bytes(image: Image.Image) -> int:
    """The buffer for a compressed strip or tile, and a second image if the first one lies on its side."""
    tags = getattr(image, "tag_v2", {})
    turned = tags.get(_ORIENTATION, 1) != 1
    needed = turned * _STORED.get(image.mode, 4) * image.width * image.height
    if image.info.get("compression") != "raw":
        if _TILE_WIDTH in tags:
            rows, width = tags.get(_TILE_LENGTH, 0), tags[_TILE_WIDTH]
        else:
            rows, width = min(tags.get(_ROWS_PER_STRIP, image.height), image.height), image.width
        needed += rows * width * max(4, sum(tags.get(_BITS, (8,))) // 8)
    return int(needed)
