"""Read any photograph as an upright 8-bit RGB image, or say in one line which file is broken and why.

Pillow decodes, within limits that are checked before a pixel is made: a photograph takes at most
`MOST_MEMORY` and a few seconds of one core, whatever its header claims. Only formats that hold photographs
are tried, so no file can start the interpreters behind Pillow's other formats (EPS runs Ghostscript).
The formats are opened one by one, not by `Image.open`, whose limit of pixels is a global of the process and
below that of today's phones.

Values of 16 bits often hold 8 or 12. The largest value says how many, as no file can be trusted to.
What a map marks as "no data" is black: the value that its TIFF names, -9999, and what is beyond 1e30.
"""

from __future__ import annotations

import ctypes
import io
import logging
import re
import stat
import struct
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageOps, JpegImagePlugin

from mpfgvc.data.tars import read_member
from mpfgvc.errors import DataError, one_line

MOST_MEMORY = 400_000_000
"""Bytes while a photograph is read for a model. Most photographs take a twentieth of it."""
MOST_BYTES = 150_000_000
"""Bytes of a file."""
MOST_PIXELS = 250_000_000
"""Pixels that a header may claim; phones reach 200 million."""
MOST_ELONGATED = 40
"""How many times as long as wide a photograph may be; panoramas reach 10."""
MOST_SCANNED = 1_000_000_000
"""Pixels of all scans of a JPEG together: a progressive one has about 10 scans, a hostile one thousands."""
MOST_READS = 1_000_000
"""Calls that read a file: hostile ones are made of parts of a few bytes, which Python looks at one by one."""
MOST_SLOW_BYTES = 30_000_000
"""Bytes of a file that is decoded at 4 MB a second."""
_SLOW_FORMATS = ("JPEG2000", "AVIF", "HEIF")
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF", "HEIF")
_PAGED = ("GIF", "PNG", "WEBP", "TIFF")
"""Formats whose second picture is one more photograph, not a preview or a map of depths."""
_HEIC = re.compile(rb"....ftyp(?:hei|hev|mif1|msf1)", re.DOTALL)
_EXTRA = {"WEBP": 7, "AVIF": 4, "JPEG2000": 11, "TIFF": 2}
"""Bytes of a pixel that a decoder takes beside the image, as measured, rounded up."""
_DEEP_MODES = {"I": 22, "F": 22, "I;16": 12, "I;16L": 12, "I;16B": 12, "I;16N": 12}
_TILE_WIDTH, _TILE_HEIGHT, _SAMPLE_FORMAT, _UNSIGNED, _GDAL_NO_DATA = 322, 323, 339, 1, 42113
"""Tags of a TIFF."""
_NO_DATA, _BEYOND = -9999, 1e30
_SWAPPED = {"16B": "16L", "16L": "16B", "16N": f"16{'BL'[sys.byteorder == 'big']}"}
"""For each order of the bytes of a color the other one."""
_DEEP_COLORS = ("RGB", "RGBA", "RGBa", "RGBX")
_ALPHA = ("RGBA", "LA", "PA", "La", "RGBa")
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
"""In a JPEG; neither a stuffed byte nor a restart."""
_END_OF_IMAGE, _START_OF_SCAN = 0xD9, 0xDA
_MOST_SEGMENTS, _MOST_VALUES, _MOST_EXIF = 100_000, 100_000, 1_000_000
_JPEG_2000 = re.compile(rb"(?=\xff\x4f\xff\x51.{4}(.{32}))", re.DOTALL)
"""Sizes of the image and of its tiles, wherever they may stand."""
_BYTES_OF_A_TILE = 14_000
"""What OpenJPEG holds for each tile, even an empty one."""
_HINT = "export it again, remove it, or set data.on_error=skip"


class Bytes(Protocol):
    """What gives the bytes of a photograph: such as an open file."""

    def read(self, most: int, /) -> bytes:
        """At most so many of them."""


class _Counted(io.BufferedReader):
    """A file that may be read `MOST_READS` times."""

    reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads += 1
        if self.reads > MOST_READS:
            raise ValueError("it consists of too many parts")
        return super().read(size)


Source = str | Path | Bytes
"""What a photograph may be read from."""


def read_image(source: Source, *, at_least: tuple[int, int] | None = None) -> Image.Image:
    """The photograph in a file: RGB, upright, its first frame, on white where it was transparent.

    `at_least` is the (height, width) in pixels that will be needed: a JPEG is then
    decoded at 1/2, 1/4 or 1/8 of its size where that is still enough.

    Raises DataError naming the file and the reason.
    """
    with _refusal(source), open_photo(source) as file:
        image = _identify(file)
        header_end = file.tell()
        _check_cost(image, file, at_least)
        file.seek(header_end)
        image = _load(image, file)
        _turn_upright(image)
        return _to_rgb(image)


def image_size(source: Source) -> tuple[int, int]:
    """The (height, width) that the header of a file gives; the pixels are not decoded.

    Raises DataError, also for a photograph that no model could be given for its size or shape.
    """
    with _refusal(source), open_photo(source) as file:
        image = _identify(file)
        size = image.height, image.width
        _check_cost(image, file, (1, 1), header_only=True)
        return size


def has_more_frames(source: Source) -> bool:
    """Whether frames or pages follow the first one, which alone is read; False where nothing can be read."""
    with suppress(Exception), open_photo(source) as file:
        image = _identify(file)
        return image.format in _PAGED and bool(getattr(image, "is_animated", False))
    return False


def as_image(source: Image.Image | np.ndarray) -> Image.Image:
    """An upright RGB image from a Pillow image, which stays as it is, or an array.

    Arrays are (height, width) or (height, width, 3): uint8, uint16 (8, 12 or 16 bits,
    by their largest value, as in files), or floats in 0..1.
    Raises DataError for any other array and for an image that cannot be read.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source)
    with _refusal(source):
        _check_shape(source.width, source.height)
        upright = source.copy()
        _turn_upright(upright)
        return _to_rgb(upright, tags=getattr(source, "tag_v2", None))


@contextmanager
def open_photo(source: Source) -> Iterator[BinaryIO]:
    """The bytes of a photograph as a file. Raises OSError or ValueError for what is no regular file."""
    if not isinstance(source, str | Path):
        content = source.read(MOST_BYTES + 1)
    elif (inside := read_member(Path(source), MOST_BYTES + 1)) is not None:
        content = inside
    else:
        status = Path(source).stat()  # a FIFO or a device would block for ever
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("it is not a regular file")
        _check_bytes(status.st_size)
        with _Counted(io.FileIO(source)) as file:
            yield file
        return
    _check_bytes(len(content))
    yield _Counted(io.BytesIO(content))


def reason_only(failure: str, path: object) -> str:
    """The reason in an error of `read_image`, for output that names the path beside it."""
    return failure.removeprefix(f"cannot read the photograph {path}: ").removesuffix(f"; {_HINT}")


def _load(image: Image.Image, file: BinaryIO) -> Image.Image:
    """The decoded image. Colors of 8 or 12 bits in 16 are decoded twice, as Pillow keeps the upper bytes."""
    tiles = _lower_bytes(getattr(image, "tile", []))
    image.load()
    extrema: Any = image.getextrema() if tiles else ()
    largest = [high for _, high in extrema]
    color = max(largest[:3], default=255)
    if color > 15:
        return image
    file.seek(0)
    lower = _identify(file)
    lower.tile = tiles  # type: ignore[attr-defined]  # every image of a file has it
    lower.load()
    bands = [color] * 3 + largest[3:]  # the last one is the opacity, which may have its full 16 bits
    upper_table, lower_table = ([level for band in bands for level in _levels(band, unit)] for unit in (256, 1))
    for top in range(0, image.height, 64):  # a few rows at a time take little memory
        rows = (0, top, image.width, min(top + 64, image.height))
        upper = image.crop(rows).point(upper_table)
        image.paste(ImageChops.add(upper, lower.crop(rows).point(lower_table)), rows)
    return image


def _levels(largest: int, unit: int) -> list[int]:
    """What each upper (`unit` 256) or lower byte adds to a level 0..255, if no upper byte is above `largest`."""
    if largest > 15:
        return [byte if unit == 256 else 0 for byte in range(256)]
    return [min(round(unit * byte * 255 / (4095 if largest else 255)), 255) for byte in range(256)]


def _lower_bytes(tiles: list[Any]) -> list[Any]:
    """How to decode the lower bytes of 16-bit colors instead of the upper ones; empty for other images."""
    swapped = []
    for tile in tiles:
        first, *rest = (tile.args,) if isinstance(tile.args, str) else tile.args or ("",)
        mode, _, order = str(first).partition(";")
        if mode not in _DEEP_COLORS or order not in _SWAPPED:
            return []
        swapped.append(tile._replace(args=(f"{mode};{_SWAPPED[order]}", *rest)))
    return swapped


def _identify(file: BinaryIO) -> Image.Image:
    """The image with its header read."""
    openers, prefix = _openers(), file.read(64)
    if prefix[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        _check_tags(file)
    if _HEIC.match(prefix) and b"avif" not in prefix:
        _load_heif()
    for name in _FORMATS:
        factory, accept = openers.get(name, (None, None))
        if factory is None or (accept is not None and accept(prefix) is not True):
            continue
        with suppress(SyntaxError, IndexError, TypeError, struct.error):  # not this format after all
            file.seek(0)
            image: Image.Image = factory(file, "")
            return image
    raise ValueError("it is not an image of a known format" if prefix else "the file is empty")


@cache
def _openers() -> dict[str, Any]:
    """Pillow's formats; on the way its decoders are told to be quiet, as a broken file is named here."""
    Image.init()
    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    with suppress(OSError, StopIteration, AttributeError):  # libtiff writes to standard error itself
        lines = Path("/proc/self/maps").read_text(errors="replace").splitlines()
        library = next(line.split(maxsplit=5)[-1] for line in lines if "/libtiff" in line)
        ctypes.CDLL(library).TIFFSetErrorHandler(None)
    return Image.OPEN


@cache
def _load_heif() -> None:
    try:
        import pillow_heif
    except ImportError:
        raise ValueError("it is HEIC, which needs one more package: pip install pillow-heif") from None
    pillow_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False, decode_threads=1)


def _check_bytes(size: int) -> None:
    if size > MOST_BYTES:
        raise ValueError(f"it is larger than the {MOST_BYTES / 1e6:.0f} MB that a photograph may have")


def _check_shape(width: int, height: int) -> None:
    if width == 0 or height == 0:
        raise ValueError("it has no pixels")
    if width * height > MOST_PIXELS:
        most = MOST_PIXELS // 10**6
        raise ValueError(f"{width * height / 1e6:.0f} megapixels are more than {most}; scale it down")
    if max(width, height) > MOST_ELONGATED * min(width, height):
        raise ValueError(f"its shape of {width} x {height} pixels is more elongated than {MOST_ELONGATED} : 1; crop it")


def _check_tags(file: BinaryIO) -> None:
    """Refuse a TIFF with lists of millions of numbers: Pillow makes an object of every one."""
    file.seek(0)
    head = file.read(16)
    order, is_big = "<" if head[:1] == b"I" else ">", head[2:4] in (b"+\0", b"\0+")
    with suppress(struct.error):  # Pillow says what is wrong
        file.seek(*struct.unpack_from(order + ("Q" if is_big else "I"), head, 8 if is_big else 4))
        count, entry = (8, "HHQ8x") if is_big else (2, "HHI4x")
        for _ in range(*struct.unpack(order + ("Q" if is_big else "H"), file.read(count))):
            tag, kind, values = struct.unpack(order + entry, file.read(struct.calcsize(order + entry)))
            if values > _MOST_VALUES and kind not in (1, 2, 6, 7):  # bytes stay together
                raise ValueError(f"its tag {tag} has {values} values")


def _check_cost(
    image: Image.Image, file: BinaryIO, at_least: tuple[int, int] | None, *, header_only: bool = False
) -> None:
    """Refuse an image that takes too much time or memory; choose the scale that a JPEG is decoded at.

    `header_only` looks for repeated scans only where few would be too many.
    """
    width, height = image.size
    _check_shape(width, height)
    if any(tile[0] in Image.DECODERS for tile in getattr(image, "tile", ())):  # these are written in Python
        raise ValueError(f"decoding this kind of {image.format} takes too long; save it as PNG")
    if image.format in _SLOW_FORMATS and file.seek(0, io.SEEK_END) > MOST_SLOW_BYTES:
        most = f"{MOST_SLOW_BYTES / 1e6:.0f} MB of {image.format}"
        raise ValueError(f"decoding more than {most} takes too long; save it as JPEG or PNG")
    needed = 9_000_000 + _tiles_cost(image, file)  # blocks of a file, tables of a decoder
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        few = "progressive" not in image.info or width * height <= MOST_SCANNED // 20
        scans = 1 if header_only and few else _count_scans(image, file)
        if scans > 1 or "progressive" in image.info:  # all coefficients are kept until the last scan
            needed += 2 * len(image.getbands()) * width * height
        if at_least is not None:
            image.draft(None, (max(at_least),) * 2)  # both ways round: it may lie on its side
    transparent = image.mode in _ALPHA or "transparency" in image.info
    pixel = 16 if transparent else _DEEP_MODES.get(image.mode, 8)
    needed += (pixel + _EXTRA.get(image.format or "", 0)) * image.width * image.height
    if needed > MOST_MEMORY:
        what = f"reading its {width} x {height} pixels as {image.format} ({image.mode})"
        takes = f"takes {needed / 1e6:.0f} MB, more than the {MOST_MEMORY / 1e6:.0f} MB allowed"
        raise ValueError(f"{what} {takes}; scale it down, or save it as a baseline JPEG")


def _tiles_cost(image: Image.Image, file: BinaryIO) -> int:
    """The bytes that tiles take beside the image. Refuse those that are far larger than the picture."""
    if image.format == "JPEG2000":
        file.seek(0)
        headers = [struct.unpack(">8I", found[1]) for found in _JPEG_2000.finditer(file.read())]
        counts = [
            -(-(width - left) // max(tile_width, 1)) * -(-(height - top) // max(tile_height, 1))
            for width, height, _, _, tile_width, tile_height, left, top in headers
        ]
        return _BYTES_OF_A_TILE * max(counts, default=1)
    tags = getattr(image, "tag_v2", {}) if image.format == "TIFF" else {}
    tile = [max(int(tags.get(tag, 1)), 1) for tag in (_TILE_WIDTH, _TILE_HEIGHT)]
    width, height = (-(-side // part) * part for side, part in zip(image.size, tile, strict=True))
    if width * height > 2 * image.width * image.height + 1_000_000:
        raise ValueError(f"its tiles of {tile[0]} x {tile[1]} pixels are larger than the picture")
    return 4 * tile[0] * tile[1]


def _count_scans(image: JpegImagePlugin.JpegImageFile, file: BinaryIO) -> int:
    """The scans of a JPEG, without decoding. Refuse too many, as each goes over all the pixels."""
    file.seek(0)
    content, start, scans = file.read(), 2, 0
    for _ in range(_MOST_SEGMENTS):
        found = _MARKER.search(content, start)
        marker, segment = (content[found.end() - 1], content[found.end() : found.end() + 3]) if found else (0, b"")
        if found is None or marker == _END_OF_IMAGE:
            return scans
        start = found.end() + int.from_bytes(segment[:2], "big")
        scans += marker == _START_OF_SCAN
        if scans * image.width * image.height > MOST_SCANNED:
            size = f"{image.width} x {image.height}"
            raise ValueError(f"its {size} pixels come in {scans} or more scans; save it as a baseline JPEG")
        if marker == _START_OF_SCAN and "progressive" not in image.info and segment[2:] >= bytes([image.layers]):
            return scans  # the one scan has all of it
    raise ValueError("it consists of too many parts")


def _turn_upright(image: Image.Image) -> None:
    """Turn an image as its EXIF orientation says; a broken EXIF block turns nothing."""
    if len(image.info.get("exif") or b"") < _MOST_EXIF:
        with suppress(Exception):  # broken blocks leave the reader as almost any exception; the pixels are fine
            ImageOps.exif_transpose(image, in_place=True)


def _to_rgb(image: Image.Image, *, tags: Any = None) -> Image.Image:
    """The image as RGB, transparent parts on white. `tags` are those of the TIFF that it is of."""
    if image.mode in _DEEP_MODES:
        return _gray_levels(image, getattr(image, "tag_v2", tags)).convert("RGB")
    if image.mode in _ALPHA or "transparency" in image.info:
        image = image if image.mode == "RGBA" else image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _gray_levels(image: Image.Image, tags: Any) -> Image.Image:
    """An image of more than 8 bits as one of 8, black where a map has no data."""
    values = np.asarray(image)
    if image.mode == "I" and tags is not None and _UNSIGNED in tags.get(_SAMPLE_FORMAT, (_UNSIGNED,)):
        values = values.view(np.uint32)
    missing = values == _NO_DATA if image.mode in ("I", "F") else np.zeros(values.shape, dtype=bool)
    if image.mode == "F":
        missing |= ~(np.abs(values) <= _BEYOND)
    with suppress(ValueError, TypeError), np.errstate(over="ignore"):
        marker = float((tags or {}).get(_GDAL_NO_DATA, "none"))
        missing |= values == (np.float32(marker) if image.mode == "F" else marker)
    return Image.fromarray(_to_8_bits(values, missing if missing.any() else None))


def _to_8_bits(values: np.ndarray, missing: NDArray[np.bool_] | None = None) -> NDArray[np.uint8]:
    """Gray values as uint8: scaled from 8, 12 or 16 bits, or 0..1, whichever holds the largest.

    All others are scaled from the darkest to the lightest. What is missing is black.
    """
    ranges = (1, 255) if values.dtype.kind == "f" else (255, 4095, 65535)
    there = values if missing is None else values[~missing]
    low, high = (float(there.min()), float(there.max())) if there.size else (0.0, 1.0)
    known = next((top for top in ranges if high <= top), None) if low >= 0 else None
    if known is not None:
        low, high = 0.0, float(known)
    if values.dtype == np.uint16:  # a table is several times as fast
        table = _scaled(np.arange(65536, dtype=np.float64), low, high)
        levels: NDArray[np.uint8] = table[values]
    else:
        with np.errstate(invalid="ignore"):  # a signalling NaN
            levels = _scaled(values.astype(np.float64), low, high)
    if missing is not None:
        levels[missing] = 0
    return levels


def _scaled(values: NDArray[np.float64], low: float, high: float) -> NDArray[np.uint8]:
    values -= low
    values /= max(high - low, 1e-12)
    values *= 255
    return values.round(out=values).clip(0, 255, out=values).astype(np.uint8)


def _from_array(array: np.ndarray) -> Image.Image:
    shaped = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)
    if not shaped or array.size == 0:
        raise DataError(f"an image array must be (height, width) or (height, width, 3), got {array.shape}")
    with _refusal(Image.Image()):
        _check_shape(array.shape[1], array.shape[0])
    if np.issubdtype(array.dtype, np.floating):
        if not (array.min() >= 0 and array.max() <= 1):
            raise DataError(f"a float image must be in 0..1, got {array.min():g}..{array.max():g}; divide by 255")
        array = (array * 255).round().astype(np.uint8)
    if array.dtype == np.uint16:
        array = _to_8_bits(array)
    if array.dtype != np.uint8:
        raise DataError(f"an image array must be uint8, uint16 or float (0..1), got {array.dtype}")
    return Image.fromarray(array).convert("RGB")


@contextmanager
def _refusal(source: Source | Image.Image) -> Iterator[None]:
    """Turn whatever Pillow's decoders raise into one line that names the file."""
    try:
        yield
    except Exception as error:  # broken files leave the decoders as almost any exception
        if isinstance(source, Image.Image | io.IOBase):
            raise DataError(f"cannot read the given image: {_reason(error)}; export it again") from None
        raise DataError(f"cannot read the photograph {source}: {_reason(error)}; {_HINT}") from None


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "it does not exist"
    if isinstance(error, MemoryError):
        return "there is not enough memory to decode it"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return one_line(error) or type(error).__name__
