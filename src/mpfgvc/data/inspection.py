"""Every photograph is looked at, on all cores: its header before the first step, or a thumbnail.

A header takes a fraction of a millisecond, 10,000 of them a few seconds, so a broken file is named at once.
The digest that comes with it says whether two files are the same photograph: it covers the size, the
beginning and the end of the file. Equal digests are worth a look at the whole files (doctor.py).

A thumbnail is gray and takes 2.3 kB, whatever the file is. The photograph is decoded once, as small as its
format allows, so memory is bounded by the thumbnails and the few photographs that are being decoded.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageStat

from mpfgvc.config import OnError
from mpfgvc.data.images import Source, image_size, open_photo, read_image
from mpfgvc.data.samples import Photograph
from mpfgvc.errors import DataError
from mpfgvc.processes import core_count

DIGEST_DIGITS = 32
"""Hexadecimal digits of a digest."""
_FIRST_BYTES, _LAST_BYTES = 16 * 1024, 4 * 1024
SIDE = 48
"""Height and width of a thumbnail in pixels; the shape of the photograph is not kept."""
_LOOKED_AT = (64, 64)

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Header:
    """What is known of a photograph without its pixels: its size in pixels and the digest of its file."""

    height: int
    width: int
    digest: str


@dataclass(frozen=True, kw_only=True)
class Headers:
    """The header of each photograph that has one, and the reason for each that has none."""

    found: Mapping[Path, Header]
    broken: Mapping[Path, str]


def check_headers(photographs: Iterable[Photograph], on_error: OnError) -> Headers:
    """Read the header of every file once, on all cores; pictures without a file are left out.

    Raises DataError for the first broken file, with their count, if `on_error` is "raise".
    """
    paths = [photograph.path for photograph in photographs if photograph.has_file]
    with ThreadPoolExecutor(max_workers=core_count()) as pool:
        read = list(zip(paths, pool.map(_read, paths), strict=True))
    broken = {path: result for path, result in read if isinstance(result, str)}
    if broken and on_error == "raise":
        count = f"{len(broken)} of {len(paths)} photographs are broken, this is the first"
        raise DataError(f"{next(iter(broken.values()))} ({count})")
    found = {path: result for path, result in read if isinstance(result, Header)}
    return Headers(found=found, broken=broken)


def photo_digest(source: Source) -> str:
    """`DIGEST_DIGITS` hexadecimal digits for the size, the first 16 KiB and the last 4 KiB of a file."""
    with open_photo(source) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        digest = hashlib.blake2b(size.to_bytes(8, "little"), digest_size=DIGEST_DIGITS // 2)
        digest.update(file.read(_FIRST_BYTES))
        file.seek(max(0, size - _LAST_BYTES))
        digest.update(file.read(_LAST_BYTES))
        return digest.hexdigest()


def _read(source: Source) -> Header | str:
    try:
        height, width = image_size(source)
        return Header(height=height, width=width, digest=photo_digest(source))
    except DataError as error:
        return str(error)
    except OSError as error:
        return f"cannot read the photograph {source}: {error.strerror}; check the disk"


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
    with ThreadPoolExecutor(max_workers=core_count()) as pool:
        looks = dict(zip(paths, pool.map(_look, paths), strict=True))
    taken = {path: look for path, look in looks.items() if not isinstance(look, str)}
    return Thumbnails(
        paths=tuple(taken),
        pixels=np.array([pixels for pixels, _ in taken.values()], dtype=np.uint8).reshape(-1, SIDE, SIDE),
        contrast=np.array([contrast for _, contrast in taken.values()], dtype=np.float32),
        broken={path: look for path, look in looks.items() if isinstance(look, str)},
    )


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
