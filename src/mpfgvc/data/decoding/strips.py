"""Decode a large PNG or TIFF a few rows at a time, which Pillow itself cannot.

Each strip is handed to Pillow as a small file of its own. The rows of a TIFF are in strips
that know nothing of each other. The rows of a PNG are stored as differences to the row above,
so its strip begins with the last row of the strip before, which is cut off again.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator

from PIL import Image, TiffImagePlugin

from mpfgvc.data.decoding.photo_file import PNG_SIGNATURE, PhotoFile, png_chunks
from mpfgvc.data.decoding.pixels import strip_rows

Strips = Callable[[], Iterable[Image.Image]]
_PNG_BYTES = {"L": 1, "P": 1, "LA": 2, "RGB": 3, "RGBA": 4, "I;16": 2}
_BLOCK = 64 * 1024
_WIDTH, _LENGTH, _OFFSETS, _ROWS_PER_STRIP, _COUNTS = 256, 257, 273, 278, 279
_BITS, _CHANNELS, _PLANAR, _ORIENTATION, _TILE_WIDTH = 258, 277, 284, 274, 322
_OLD_JPEG = "tiff_jpeg"  # its strips share tables that may be anywhere in the file
_MOST_STRIP = 32 * 1024**2


def strips_of(image: Image.Image, file: PhotoFile, factor: int) -> Strips | None:
    """A way to go through the strips of an image that is not loaded; None if it has to be decoded whole."""
    rows = strip_rows(stored_size(image)[0], factor)
    if image.format == "PNG" and _is_simple_png(image):
        _take_exif(image, file)
        return lambda: _png_strips(image, file, rows)
    if image.format == "TIFF" and _is_simple_tiff(image):
        return lambda: _tiff_strips(image, file, rows)
    return None


def stored_size(image: Image.Image) -> tuple[int, int]:
    """(width, height) of the pixels in the file; Pillow gives that of a TIFF as it will be turned."""
    tags = getattr(image, "tag_v2", None)
    return image.size if tags is None else (int(tags[_WIDTH]), int(tags[_LENGTH]))


def _is_simple_png(image: Image.Image) -> bool:
    """Whether its rows follow one another, and come out of Pillow as they went in."""
    tiles = getattr(image, "tile", [])
    raw = tiles[0].args if tiles else ""
    return raw == {"I;16": "I;16B"}.get(image.mode, image.mode) and (
        image.mode in _PNG_BYTES and not image.info.get("interlace")
    )


def _png_strips(image: Image.Image, file: PhotoFile, rows: int) -> Iterator[Image.Image]:
    row_bytes = 1 + image.width * _PNG_BYTES[image.mode]
    header, palette = _png_head(file)
    before = b""
    for filtered in _png_rows(file, row_bytes, rows, image.height):
        count = len(filtered) // row_bytes + bool(before)
        size = struct.pack(">II", image.width, count)
        content = zlib.compress(before + filtered, 0)
        parts = (_chunk(b"IHDR", size + header[8:]), *palette, _chunk(b"IDAT", content), _chunk(b"IEND", b""))
        strip = _open("PNG", PNG_SIGNATURE + b"".join(parts))
        strip = strip.crop((0, bool(before), strip.width, strip.height))
        last = strip.crop((0, strip.height - 1, strip.width, strip.height)).tobytes()
        before = b"\0" + (_swapped(last) if strip.mode == "I;16" else last)
        yield strip


def _png_head(file: PhotoFile) -> tuple[bytes, list[bytes]]:
    """The content of the header, and the chunks that colors depend on, whole."""
    header, palette = b"", []
    for start, kind, length in png_chunks(file):
        file.seek(start + 8)
        if kind == b"IHDR":
            header = file.read(length)
        elif kind in (b"PLTE", b"tRNS"):
            palette.append(_chunk(kind, file.read(length)))
        elif kind == b"IDAT":
            break
    return header, palette


def _take_exif(image: Image.Image, file: PhotoFile) -> None:
    """Read the EXIF block if it comes after the pixels, as Pillow does when it has decoded them."""
    for start, kind, length in png_chunks(file):
        if kind == b"eXIf":
            file.seek(start + 8)
            image.info.setdefault("exif", b"Exif\0\0" + file.read(length))


def _png_rows(file: PhotoFile, row_bytes: int, rows: int, height: int) -> Iterator[bytes]:
    """The rows as they are stored, `rows` at a time."""
    unpacker = zlib.decompressobj()
    blocks = _png_blocks(file)
    while height > 0:
        wanted = min(rows, height) * row_bytes
        held = bytearray()
        while len(held) < wanted:
            packed = unpacker.unconsumed_tail or next(blocks, b"")
            more = unpacker.decompress(packed, wanted - len(held))
            if not packed and not more:
                raise ValueError("image file is truncated")
            held += more
        yield bytes(held)
        height -= rows


def _png_blocks(file: PhotoFile) -> Iterator[bytes]:
    for start, kind, length in png_chunks(file):
        if kind == b"IDAT":
            for place in range(start + 8, start + 8 + length, _BLOCK):
                file.seek(place)
                yield file.read(min(_BLOCK, start + 8 + length - place))


def _is_simple_tiff(image: Image.Image) -> bool:
    """Whether its strips hold whole pixels and can be taken in parts or are of moderate size."""
    tags = getattr(image, "tag_v2", {})
    width, height = stored_size(image)
    rows = min(tags.get(_ROWS_PER_STRIP, height), height)
    compression = image.info.get("compression")
    return (
        _OFFSETS in tags
        and _TILE_WIDTH not in tags
        and tags.get(_PLANAR, 1) == 1
        and compression != _OLD_JPEG
        and len(tags[_OFFSETS]) == len(tags.get(_COUNTS, ()))
        and (compression == "raw" or rows * width * 8 <= _MOST_STRIP)
    )


def _tiff_strips(image: Image.Image, file: PhotoFile, rows: int) -> Iterator[Image.Image]:
    """The rows, `rows` at a time, from stored strips of another height."""
    held: list[Image.Image] = []
    for strip in _stored_strips(image, file):
        held.append(strip)
        while sum(each.height for each in held) >= rows:
            joined = _stack(held)
            yield joined.crop((0, 0, joined.width, rows))
            held = [joined.crop((0, rows, joined.width, joined.height))] if joined.height > rows else []
    if held:
        yield _stack(held)


def _stored_strips(image: Image.Image, file: PhotoFile) -> Iterator[Image.Image]:
    """The strips in their order; those without compression in parts of moderate size."""
    tags = image.tag_v2  # type: ignore[attr-defined]  # it is a TIFF
    width, height = stored_size(image)
    rows = max(1, min(tags.get(_ROWS_PER_STRIP, height), height))
    bits = tags.get(_BITS, (1,))
    row_bytes = (width * (sum(bits) if len(bits) > 1 else bits[0] * tags.get(_CHANNELS, 1)) + 7) // 8
    most = max(1, _MOST_STRIP // 8 // width) if image.info.get("compression") == "raw" else rows
    for number, (offset, count) in enumerate(zip(tags[_OFFSETS], tags[_COUNTS], strict=True)):
        left = min(rows, height - number * rows)
        while left > 0:
            taken = min(most, left)
            size = taken * row_bytes if most < rows else count
            file.seek(offset)
            yield _open("TIFF", _small_tiff(tags, file.read(size), taken))
            offset, left = offset + size, left - taken


def _small_tiff(tags: TiffImagePlugin.ImageFileDirectory_v2, content: bytes, rows: int) -> bytes:
    """A TIFF of one strip with the tags of another one."""
    small = TiffImagePlugin.ImageFileDirectory_v2(prefix=tags.prefix)
    for tag, value in tags.items():
        if tag not in (_ORIENTATION, _OFFSETS, _COUNTS) and (tag < 400 or tag in (530, 531, 532)):
            small.tagtype[tag] = tags.tagtype[tag]
            small[tag] = value
    small[_LENGTH] = small[_ROWS_PER_STRIP] = rows
    small[_OFFSETS], small[_COUNTS] = 0, len(content)
    packed = io.BytesIO()
    small.save(packed)
    return packed.getvalue() + content


def _stack(images: list[Image.Image]) -> Image.Image:
    if len(images) == 1:
        return images[0]
    whole = images[0].crop((0, 0, images[0].width, sum(each.height for each in images)))
    top = 0
    for each in images:
        whole.paste(each, (0, top))
        top += each.height
    return whole


def _open(kind: str, content: bytes) -> Image.Image:
    image: Image.Image = Image.OPEN[kind][0](io.BytesIO(content), "")
    image.load()
    return image


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _swapped(row: bytes) -> bytes:
    """Big-endian from Pillow's little-endian 16-bit values."""
    swapped = bytearray(row)
    swapped[::2], swapped[1::2] = row[1::2], row[::2]
    return bytes(swapped)
