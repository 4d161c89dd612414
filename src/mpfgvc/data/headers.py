"""The headers of all photographs, read before the first step, so that a broken file is named at once.

A header takes a fraction of a millisecond, 10,000 of them a few seconds. The digest that comes
with it says whether two files are the same photograph: it covers the size, the beginning and
the end of the file. Equal digests are worth a look at the whole files (doctor.py).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from mpfgvc.config import OnError
from mpfgvc.data.images import Source, image_size, open_photo
from mpfgvc.data.samples import Photograph
from mpfgvc.errors import DataError
from mpfgvc.processes import core_count

DIGEST_DIGITS = 32
"""Hexadecimal digits of a digest."""
_FIRST_BYTES, _LAST_BYTES = 16 * 1024, 4 * 1024


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
    sources = {photograph.path: photograph.source for photograph in photographs if photograph.has_file}
    with ThreadPoolExecutor(max_workers=core_count()) as pool:
        read = list(zip(sources, pool.map(_read, sources.values()), strict=True))
    broken = {path: result for path, result in read if isinstance(result, str)}
    if broken and on_error == "raise":
        count = f"{len(broken)} of {len(sources)} photographs are broken, this is the first"
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
