"""Read any photograph as an upright 8-bit RGB image, or say which file is broken and why.

Only formats that hold photographs are tried, so no file can start the
interpreters behind Pillow's other formats (EPS runs Ghostscript).

Pillow warns of images above 89 megapixels and refuses them above 179; its
limit is a global of the process. The formats are opened here one by one
instead, with a limit of our own, so a large photograph is read without a
warning and no other user of Pillow is affected.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image

from mpfgvc.errors import DataError, one_line

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm"}
    | {".jp2", ".avif"}
)
"""Names of files that are taken for photographs, in lower case."""
MOST_PIXELS = 1_000_000_000
LARGE_PIXELS = 89_000_000
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
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


def read_image(source: str | Path | IO[bytes], *, at_least: tuple[int, int] | None = None) -> Image.Image:
    """The photograph in a file: RGB, upright, its first frame, on white where it was transparent.

    `at_least` is the (height, width) in pixels that will be needed: a JPEG is then
    decoded at 1/2, 1/4 or 1/8 of its size where that is still enough, and any other
    image above 89 megapixels is reduced in the same way.

    Raises DataError naming the file and the reason.
    """
    with _refusal(source), _open(source) as image:
        return _decode(image, at_least)


def image_size(source: str | Path | IO[bytes]) -> tuple[int, int]:
    """The (height, width) that the header of a file gives; the pixels are not decoded. Raises DataError."""
    with _refusal(source), _open(source) as image:
        return image.height, image.width


def as_image(source: str | Path | Image.Image | np.ndarray) -> Image.Image:
    """An RGB image from a path, a Pillow image or an array.

    Arrays are (height, width) or (height, width, 3): uint8, or floats in 0..1.
    Raises DataError for any other array and for a file that cannot be read.
    """
    if isinstance(source, str | Path):
        return read_image(source)
    if isinstance(source, Image.Image):
        with _refusal(source):
            return _to_rgb(_upright(source))
    if isinstance(source, np.ndarray):
        return _from_array(source)
    raise DataError(f"an image must be a path, a Pillow image or an array, got {type(source).__name__}")


@contextmanager
def _refusal(source: str | Path | Image.Image | IO[bytes]) -> Iterator[None]:
    """Turn whatever Pillow's decoders raise into one line that names the file."""
    try:
        yield
    except Exception as error:  # broken files leave the decoders as almost any exception
        if not isinstance(source, str | Path):
            raise DataError(f"cannot read the given image: {_reason(error)}; export it again") from None
        hint = "export it again, remove it, or set data.on_error=skip"
        raise DataError(f"cannot read the photograph {source}: {_reason(error)}; {hint}") from None


@contextmanager
def _open(source: str | Path | IO[bytes]) -> Iterator[Image.Image]:
    """The image with its header read and its pixels still in the file."""
    with Path(source).open("rb") if isinstance(source, str | Path) else nullcontext(source) as file:
        image = _identify(file)
        pixels = image.width * image.height
        if pixels > MOST_PIXELS:
            raise ValueError(f"{pixels / 1e6:.0f} megapixels are more than {MOST_PIXELS // 10**6}")
        if pixels == 0:
            raise ValueError("it has no pixels")
        yield image


def _identify(file: IO[bytes]) -> Image.Image:
    Image.init()
    prefix = file.read(16)
    for name in _FORMATS:
        if name not in Image.OPEN:
            continue
        factory, accept = Image.OPEN[name]
        try:
            if accept is None or accept(prefix) is True:
                file.seek(0)
                return factory(file, "")
        except (SyntaxError, IndexError, TypeError, struct.error):
            continue  # Pillow's way to say: not this format after all
    raise ValueError("it is no image of a known format" if prefix else "the file is empty")


def _decode(image: Image.Image, at_least: tuple[int, int] | None) -> Image.Image:
    if at_least is not None:
        side = max(at_least)  # both ways round: the photograph may lie on its side
        image.draft(None, (side, side))
    image.load()
    if at_least is not None and image.width * image.height > LARGE_PIXELS:
        image = image if image.mode in ("L", "RGB") else _to_rgb(image)
        image = image.reduce(max(1, min(image.size) // max(at_least)))
    return _to_rgb(_upright(image))


def _upright(image: Image.Image) -> Image.Image:
    """Turn the photograph as its EXIF orientation says; a broken EXIF block turns nothing."""
    try:
        method = _UPRIGHT.get(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # as above; the pixels are fine
        return image
    if method is None:
        return image
    turned = image.transpose(method)
    # Without the EXIF block, so that nobody turns it again.
    turned.info = {key: value for key, value in image.info.items() if key == "transparency"}
    return turned


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.width == 0 or image.height == 0:
        raise ValueError("it has no pixels")
    if image.mode.startswith("I") or image.mode == "F":
        image = _to_8_bits(image)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _to_8_bits(image: Image.Image) -> Image.Image:
    """A gray image of 16 or 32 bits or of floats, scaled to 0..255.

    16 bits: 0..65535. Floats in 0..1: that range. Others: from the darkest to the lightest.
    """
    values = np.nan_to_num(np.asarray(image, dtype=np.float64))
    low, high = float(values.min()), float(values.max())
    if image.mode == "F" and low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    elif image.mode != "F" and low >= 0 and high <= 65535:
        low, high = 0.0, 65535.0
    scaled = (values - low) / max(high - low, 1e-12) * 255
    return Image.fromarray(scaled.round().astype(np.uint8))


def _from_array(array: np.ndarray) -> Image.Image:
    shaped = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)
    if not shaped or array.size == 0:
        raise DataError(f"an image array must be (height, width) or (height, width, 3), got {array.shape}")
    if np.issubdtype(array.dtype, np.floating):
        if not (array.min() >= 0 and array.max() <= 1):
            raise DataError(
                f"a float image must lie in 0..1, got {array.min():g}..{array.max():g}; divide by 255"
            )
        array = (array * 255).round().astype(np.uint8)
    if array.dtype != np.uint8:
        raise DataError(f"an image array must be uint8 (0..255) or float (0..1), got {array.dtype}")
    return Image.fromarray(array).convert("RGB")


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "it does not exist"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return one_line(error) or type(error).__name__
