"""Read any photograph as an upright 8-bit RGB image, or say which file is broken and why.

Only formats that hold photographs are tried, so no file can start the
interpreters behind Pillow's other formats (EPS runs Ghostscript).

Pillow warns of images above 89 megapixels and refuses them above 179; its
limit is a global of the process. The formats are opened here one by one
instead, with limits of our own (decoding/cost.py), so a large photograph is
read without a warning and no other user of Pillow is affected.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from mpfgvc.data.decoding.cost import (
    MOST_MEMORY,
    MOST_WHOLE_MEMORY,
    STRIP_BYTES,
    decoding_bytes,
    reading_bytes,
    refuse_memory,
    refuse_shape,
)
from mpfgvc.data.decoding.deep_color import is_dark, join_bytes, lower_byte_tiles
from mpfgvc.data.decoding.jpeg_header import JPEG_SIGNATURE, coefficient_bytes
from mpfgvc.data.decoding.noise import quiet_decoders
from mpfgvc.data.decoding.photo_file import PhotoFile, Source, open_photo
from mpfgvc.data.decoding.pixels import join_strips, levels_of, to_rgb
from mpfgvc.data.decoding.stated_depth import stated_depth
from mpfgvc.data.decoding.strips import Strips, stored_size, strips_of
from mpfgvc.data.remote import Remote
from mpfgvc.data.tars import Packed
from mpfgvc.errors import DataError, one_line

_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
_MOST_REDUCED = 128
_HINT = "export it again, remove it, or set data.on_error=skip"
_JPEGS = ("JPEG", "MPO")
_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_image(source: Source, *, at_least: tuple[int, int] | None = None) -> Image.Image:
    """The photograph in a file: RGB, upright, its first frame, on white where it was transparent.

    `at_least` is the (height, width) in pixels that will be needed: a JPEG is then
    decoded at 1/2, 1/4 or 1/8 of its size where that is still enough, and any other
    image is reduced in the same way if it would take more than `MOST_MEMORY` otherwise.

    Raises DataError naming the file and the reason.
    """
    with _refusal(source), quiet_decoders(), open_photo(source) as file:
        image = _identify(file)
        plan = _plan(image, file, at_least, MOST_MEMORY if at_least else MOST_WHOLE_MEMORY)
        depth = stated_depth(image, file)
        if plan.strips is not None:
            rgb = join_strips(plan.strips, stored_size(image), depth, factor=plan.factor)
        else:
            rgb = to_rgb(_load(image, file), depth, factor=plan.factor)
        return _upright(rgb, like=image)


def image_size(source: Source) -> tuple[int, int]:
    """The (height, width) that the header of a file gives; the pixels are not decoded.

    Raises DataError, also for a photograph that no model could be given for its size or shape.
    """
    with _refusal(source), quiet_decoders(), open_photo(source) as file:
        image = _identify(file)
        size = image.height, image.width
        _plan(image, file, (1, 1), MOST_MEMORY)
        return size


def as_image(source: str | Path | Image.Image | np.ndarray) -> Image.Image:
    """An RGB image from a path, a Pillow image or an array.

    Arrays are (height, width) or (height, width, 3): uint8, uint16 (8, 12 or 16 bits,
    by their largest value, as in files), or floats in 0..1.
    Raises DataError for any other array and for a file that cannot be read.
    """
    if isinstance(source, str | Path):
        return read_image(source)
    if isinstance(source, Image.Image):
        with _refusal(source), quiet_decoders():
            refuse_shape(source.width, source.height)
            return _upright(to_rgb(source), like=source)
    if isinstance(source, np.ndarray):
        return _from_array(source)
    raise DataError(f"an image must be a path, a Pillow image or an array, got {type(source).__name__}")


def reason_only(failure: str, path: Path | Packed | Remote) -> str:
    """The reason in an error of `read_image`, for output that names the path beside it."""
    return failure.removeprefix(f"cannot read the photograph {path}: ").removesuffix(f"; {_HINT}")


@contextmanager
def _refusal(source: Source | Image.Image) -> Iterator[None]:
    """Turn whatever Pillow's decoders raise into one line that names the file."""
    try:
        yield
    except Exception as error:  # broken files leave the decoders as almost any exception
        if not isinstance(source, str | Path | Packed | Remote):
            raise DataError(f"cannot read the given image: {_reason(error)}; export it again") from None
        raise DataError(f"cannot read the photograph {source}: {_reason(error)}; {_HINT}") from None


def _identify(file: PhotoFile) -> Image.Image:
    """The image with its header read and its pixels still in the file."""
    Image.init()
    prefix = file.read(16)
    if prefix.startswith(JPEG_SIGNATURE):
        coefficient_bytes(file)  # refuses a header without end before Pillow reads all of it
    for name in _FORMATS:
        if name not in Image.OPEN:
            continue
        factory, accept = Image.OPEN[name]
        try:
            if accept is None or accept(prefix) is True:
                file.seek(0)
                return factory(file, "")  # type: ignore[arg-type]  # as much of a file as they use
        except (SyntaxError, IndexError, TypeError, struct.error):
            continue  # Pillow's way to say: not this format after all
    raise ValueError("it is not an image of a known format" if prefix else "the file is empty")


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """How to read an image: its sides are divided by `factor`; decoded whole, or strip by strip."""

    factor: int = 1
    strips: Strips | None = None


def _plan(image: Image.Image, file: PhotoFile, at_least: tuple[int, int] | None, most: int) -> _Plan:
    """Choose the scale of a JPEG, and the exact way for other images if memory allows, else a frugal one."""
    size = image.size
    refuse_shape(*size)
    coefficients = coefficient_bytes(file) if image.format in _JPEGS else 0
    largest = 1
    if at_least is not None:
        side = max(at_least)  # both ways round: the photograph may lie on its side
        image.draft(None, (side, side))
        largest = min(max(1, min(image.size) // side), _MOST_REDUCED)
    decoding = decoding_bytes(image, file_size=file.size, coefficients=coefficients)
    turned = "exif" in image.info
    for factor in (1, largest):
        needed = reading_bytes(image, decoding, factor=factor, turned=turned)
        if needed <= most:
            return _Plan(factor=factor)
    strips = strips_of(image, file, largest)
    if strips is not None and reading_bytes(image, STRIP_BYTES, factor=largest, turned=True) <= most:
        return _Plan(factor=largest, strips=strips)
    kind = f"{'progressive ' if coefficients else ''}{image.format} ({image.mode})"
    refuse_memory(size, kind, needed, most)
    return _Plan(factor=largest)


def _load(image: Image.Image, file: PhotoFile) -> Image.Image:
    """The decoded image; once more, for the lower bytes of its colors, where those hold the picture."""
    tiles = lower_byte_tiles(image)
    image.load()
    if tiles is None or not is_dark(image):
        return image
    file.seek(0)
    lower = _identify(file)
    lower.tile = tiles  # type: ignore[attr-defined]  # every image of a file has it
    lower.load()
    return join_bytes(image, lower)


def _upright(image: Image.Image, *, like: Image.Image) -> Image.Image:
    """Turn an image as the EXIF orientation of another says; a broken EXIF block turns nothing."""
    try:
        # Not like.getexif(): a PNG that was read in strips would be decoded whole by it.
        method = _UPRIGHT.get(Image.Image.getexif(like).get(_ORIENTATION_TAG, 1))
    except Exception:  # as above; the pixels are fine
        return image
    if method is None:
        return image
    turned = image.transpose(method)
    turned.info = {}  # without the EXIF block, so that it is not turned twice
    return turned


def _from_array(array: np.ndarray) -> Image.Image:
    shaped = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)
    if not shaped or array.size == 0:
        raise DataError(f"an image array must be (height, width) or (height, width, 3), got {array.shape}")
    with _refusal(Image.Image()):
        refuse_shape(array.shape[1], array.shape[0])
    if np.issubdtype(array.dtype, np.floating):
        if not (array.min() >= 0 and array.max() <= 1):
            raise DataError(
                f"a float image must be in 0..1, got {array.min():g}..{array.max():g}; divide by 255"
            )
        array = (array * 255).round().astype(np.uint8)
    if array.dtype == np.uint16:
        return levels_of(array).apply(array.astype(np.float64)).convert("RGB")
    if array.dtype != np.uint8:
        raise DataError(f"an image array must be uint8, uint16 or float (0..1), got {array.dtype}")
    return Image.fromarray(array).convert("RGB")


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "it does not exist"
    if isinstance(error, MemoryError):
        return "there is not enough memory to decode it"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return one_line(error) or type(error).__name__
