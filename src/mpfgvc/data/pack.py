"""Write a dataset as WebDataset shards: `mpfgvc data pack`.

Each photograph is a `.jpg` (or what its file is) with a `.cls` (the number of its class) and a `.json`
(class, split, path) of the same name. A shard is written whole or not at all; `photographs.json` comes last. A
pack that was stopped goes on with the shards that are missing: the plan in the folder says which photographs
these are, and refuses others.

With `size`, photographs are scaled to that shorter side and stored as JPEG; smaller ones stay as they are.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from mpfgvc.config import OnError
from mpfgvc.data.images import image_size, open_photo
from mpfgvc.data.inspection import photo_digest
from mpfgvc.data.photographs_file import PHOTOGRAPHS, save_photos
from mpfgvc.data.readers.shards import PLAN
from mpfgvc.data.samples import PhotoSet, Sample
from mpfgvc.data.tars import checksum, inside, members, read_member
from mpfgvc.errors import ConfigError, DataError, OutputError
from mpfgvc.files import claim_folder, make_folder, new_file, remove, write_text
from mpfgvc.processes import core_count
from mpfgvc.progress import Bar

QUALITY = 95
"""JPEG quality of resized copies."""
_AHEAD = 64  # photographs in memory at a time


@dataclass(frozen=True, kw_only=True)
class PackResult:
    """What was packed: the folder, how much is in it, and which photographs could not be read."""

    path: Path
    shards: int
    photographs: int
    bytes: int
    unreadable: tuple[str, ...]
    kept_shards: int
    """Shards that were there already, from a pack that was stopped."""


def pack(
    photos: PhotoSet, out: Path, *, per_shard: int = 1000, size: int | None = None, on_error: OnError = "raise"
) -> PackResult:
    """Pack a dataset into the folder `out`; `size` is the shorter side of copies in pixels.

    Raises OutputError if the folder holds other things, DataError for a photograph.
    """
    for name, value, least in (("--per-shard", per_shard, 1), ("--size", size, 16)):
        if value is not None and value < least:
            raise ConfigError(f"{name} must be at least {least}, got {value}")
    make_folder(out)
    with claim_folder(out):
        plan = _plan(photos, per_shard, size)
        _refuse_other(out, plan)
        write_text(out / PLAN, plan)
        return _write(photos, out, per_shard, size, on_error)


def _plan(photos: PhotoSet, per_shard: int, size: int | None) -> str:
    """What decides the content of every shard, so that a pack goes on only with the same."""
    digest = hashlib.blake2b(digest_size=16)
    for sample, name in zip(photos.samples, photos.samples.paths, strict=True):
        row = f"{name}:{_file_size(sample)}:{photos.classes[sample.label]}:{sample.split}\n"
        digest.update(row.encode(errors="surrogateescape"))
    return json.dumps({"per_shard": per_shard, "size": size, "photographs": digest.hexdigest()}) + "\n"


def _refuse_other(out: Path, plan: str) -> None:
    """Raise OutputError if the folder holds shards, another pack that was stopped, or other files."""
    if (out / PHOTOGRAPHS).exists():
        raise OutputError(f"{out} holds packed shards already; choose another --out")
    if not (out / PLAN).exists():
        if other := sorted(entry.name for entry in out.iterdir() if not entry.name.startswith(".")):
            raise OutputError(f"{out} holds other files ({other[0]}); choose another --out")
    elif (out / PLAN).read_text() != plan:
        rule = "holds the beginning of another pack (other photographs, --size or --per-shard)"
        raise OutputError(f"{out} {rule}; remove it or choose another --out")


def _write(photos: PhotoSet, out: Path, per_shard: int, size: int | None, on_error: OnError) -> PackResult:
    stem = re.sub(r"[^A-Za-z0-9]+", "-", photos.name).strip("-")[:60] or "shard"
    packed: dict[int, tuple[str, str]] = {}  # path and digest by the index of the photograph
    bar, kept, shards = Bar("pack", total=len(photos.samples)), 0, list[Path]()
    for start in range(0, len(photos.samples), per_shard):
        numbers = range(start, min(start + per_shard, len(photos.samples)))
        file = out / f"{stem}-{len(shards):06d}.tar"
        if file.exists():
            kept += 1
        else:
            with new_file(file) as part, tarfile.open(part, "w", format=tarfile.USTAR_FORMAT) as archive:
                for name, content in _members_of(photos, numbers, size, on_error):
                    info = tarfile.TarInfo(name)  # no time: the content alone decides the bytes
                    info.size, info.uname = len(content), checksum(content)
                    archive.addfile(info, io.BytesIO(content))
        for name in members(file):
            if not name.endswith((".cls", ".json")):
                packed[int(Path(name).stem)] = f"{file.name}!{name}", photo_digest(inside(file, name))
        shards.append(file)
        bar.advance(len(numbers))
    bar.close()
    if not packed:
        raise DataError(f"{photos.name}: no photograph can be read, nothing is packed")
    paths, digests = zip(*packed.values(), strict=True)
    samples = replace(
        photos.samples.take(list(packed)), paths=np.array(paths, object), digests=np.array(digests, "S32")
    )
    save_photos(replace(photos, samples=samples), out / PHOTOGRAPHS)
    remove(out / PLAN)
    return PackResult(
        path=out,
        shards=len(shards),
        photographs=len(packed),
        bytes=sum(file.stat().st_size for file in shards),
        unreadable=tuple(str(sample.path) for row, sample in enumerate(photos.samples) if row not in packed),
        kept_shards=kept,
    )


def _members_of(photos: PhotoSet, numbers: range, size: int | None, on_error: OnError) -> Iterator[tuple[str, bytes]]:
    """The name and the bytes of each member, in order; unreadable photographs are left out if skipped."""

    def content(number: int) -> tuple[bytes, str] | None:
        try:
            return _content(photos.samples[number], size)
        except DataError:
            if on_error == "raise":
                raise
            return None

    with ThreadPoolExecutor(core_count()) as pool:
        for first in range(0, len(numbers), _AHEAD):
            chunk = numbers[first : first + _AHEAD]
            for number, found in zip(chunk, pool.map(content, chunk), strict=True):
                if found is None:
                    continue
                sample, path = photos.samples[number], photos.samples.paths[number]
                facts = {"class": photos.classes[sample.label], "split": sample.split, "path": path}
                yield f"{number:09d}{found[1]}", found[0]
                yield f"{number:09d}.cls", str(sample.label).encode()
                yield f"{number:09d}.json", json.dumps(facts).encode()


def _content(sample: Sample, size: int | None) -> tuple[bytes, str]:
    """The bytes of a photograph as its shard will hold them, and the suffix of its name."""
    if not sample.has_file:
        return _encoded(sample.read(), "PNG"), ".png"
    height, width = image_size(sample.path)  # a broken photograph is named here
    if size is not None and min(height, width) > size:
        image = sample.read()
        factor = size / min(image.size)
        smaller = [max(1, round(side * factor)) for side in image.size]
        return _encoded(image.resize(smaller, Image.Resampling.BICUBIC), "JPEG"), ".jpg"
    try:
        with open_photo(sample.path) as file:
            return file.read(), sample.path.suffix.lower()
    except OSError as error:
        raise DataError(f"cannot read the photograph {sample.path}: {error.strerror}") from None


def _encoded(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.info = {}
    image.save(buffer, kind, quality=QUALITY)
    return buffer.getvalue()


def _file_size(sample: Sample) -> int:
    """The bytes of a photograph; 0 for a drawn one, -1 where it cannot be said, which reading it will."""
    try:
        member = read_member(sample.path) if sample.has_file else b""
        return len(member) if member is not None else sample.path.stat().st_size
    except (OSError, ValueError):
        return -1
