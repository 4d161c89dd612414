"""What a PNG or a TIFF says about the range of its gray values.

PNG: the chunk sBIT. TIFF: BitsPerSample below 16, SampleFormat, the tags MinSampleValue
to SMaxSampleValue, and the text that GDAL writes for "no data".
"""

from __future__ import annotations

from PIL import Image

from mpfgvc.data.decoding.photo_file import PhotoFile, png_chunks
from mpfgvc.data.decoding.pixels import NOTHING_SAID, Depth

_BITS, _SAMPLE_FORMAT, _NO_DATA = 258, 339, 42113
_LOWEST, _HIGHEST = (340, 280), (341, 281)  # the general tag before the one for whole numbers


def stated_depth(image: Image.Image, file: PhotoFile) -> Depth:
    """The range that the file states for a gray image of more than 8 bits; its header has been read."""
    if not (image.mode.startswith("I") or image.mode == "F"):
        return NOTHING_SAID
    if image.format == "PNG":
        return _png_depth(file)
    return _tiff_depth(image) if image.format == "TIFF" else NOTHING_SAID


def _png_depth(file: PhotoFile) -> Depth:
    """sBIT counts the bits that matter. A writer that follows the standard fills all 16 nevertheless."""
    place = file.tell()
    try:
        for start, kind, length in png_chunks(file):
            if kind == b"sBIT" and length == 1:
                file.seek(start + 8)
                return Depth(high=float(2 ** min(16, file.read(1)[0]) - 1))
            if kind == b"IDAT":
                break
        return NOTHING_SAID
    finally:
        file.seek(place)


def _tiff_depth(image: Image.Image) -> Depth:
    tags = getattr(image, "tag_v2", {})
    bits = int(_number(tags.get(_BITS)) or 8)
    whole = image.mode != "F"
    low, high = _first(tags, _LOWEST), _first(tags, _HIGHEST)
    if whole and high == 2**bits - 1:
        high = None  # every writer's default, which says nothing
    if whole and high is None and bits < 16:
        low, high = 0.0, float(2**bits - 1)
    unsigned = bits == 32 and _number(tags.get(_SAMPLE_FORMAT, 1)) == 1
    return Depth(low=low, high=high, no_data=_number(tags.get(_NO_DATA)), unsigned=unsigned)


def _first(tags: object, keys: tuple[int, ...]) -> float | None:
    held = getattr(tags, "get", lambda key: None)
    return next((value for key in keys if (value := _number(held(key))) is not None), None)


def _number(value: object) -> float | None:
    """The number in a tag: the first of several, or what its text spells."""
    if isinstance(value, tuple):
        value = value[0] if value else None
    try:
        return None if value is None else float(str(value).strip(" \0"))
    except ValueError:
        return None
