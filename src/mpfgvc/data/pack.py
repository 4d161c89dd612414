"""Write a dataset as WebDataset shards: `mpfgvc data pack`.

Each photograph is a `.jpg` (or what its file is) with a `.cls` (the number of its class) and a `.json`
(class, split, path) of the same name. A shard is written whole or not at all; `shards.json` comes last. A
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
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mpfgvc.config import OnError
from mpfgvc.data.images import image_size, open_photo
from mpfgvc.data.inspection import photo_digest
from mpfgvc.data.readers.shards import INDEX, LAYOUT, PLAN, ROW, Layout, index_digest, member_name, save_index
from mpfgvc.data.samples import PhotoSet, Sample, Samples
from mpfgvc.data.tars import Packed, inside, members
from mpfgvc.errors import ConfigError, DataError, OutputError
from mpfgvc.files import LOCK, OWNER, claim_folder, make_folder, new_file, remove, write_text
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
        bytes_of = _file_size(sample) if sample.has_file else 0
        row = f"{name}:{bytes_of}:{photos.classes[sample.label]}:{sample.split}\n"
        digest.update(row.encode(errors="surrogateescape"))
    return json.dumps({"per_shard": per_shard, "size": size, "photographs": digest.hexdigest()}) + "\n"


def _refuse_other(out: Path, plan: str) -> None:
    """Raise OutputError if the folder holds shards, another pack that was stopped, or other files."""
    if (out / LAYOUT).exists():
        raise OutputError(f"{out} holds packed shards already; choose another --out")
    if (out / PLAN).exists():
        if (out / PLAN).read_text() != plan:
            rule = "holds the beginning of another pack (other photographs, --size or --per-shard)"
            raise OutputError(f"{out} {rule}; remove it or choose another --out")
        return
    own = {LOCK, OWNER, INDEX}
    if other := sorted(entry.name for entry in out.iterdir() if entry.name not in own):
        raise OutputError(f"{out} holds other files ({other[0]}); choose another --out")


def _write(photos: PhotoSet, out: Path, per_shard: int, size: int | None, on_error: OnError) -> PackResult:
    bar, kept = Bar("pack", total=len(photos.samples)), 0
    stem = re.sub(r"[^A-Za-z0-9]+", "-", photos.name).strip("-")[:60] or "shard"
    shards: list[tuple[str, int, int]] = []
    rows: list[NDArray[np.void]] = []
    suffixes: dict[str, int] = {}
    unreadable: list[str] = []
    for start in range(0, len(photos.samples), per_shard):
        samples = photos.samples[start : start + per_shard]
        file = out / f"{stem}-{len(shards):06d}.tar"
        if file.exists():
            kept += 1
        else:
            with new_file(file) as part, tarfile.open(part, "w", format=tarfile.USTAR_FORMAT) as archive:
                for name, member in _members_of(photos, samples, start, size, on_error):
                    _add(archive, name, member)
        rows.append(_rows(file, samples, start, len(shards), suffixes))
        shards.append((file.name, file.stat().st_size, len(rows[-1])))
        packed = set(rows[-1]["number"].tolist())
        unreadable += [str(each.path) for row, each in enumerate(samples, start) if row not in packed]
        bar.advance(len(samples))
    bar.close()
    index = np.concatenate(rows)
    if not len(index):
        raise DataError(f"{photos.name}: no photograph can be read, nothing is packed")
    layout = Layout(
        name=photos.name,
        classes=photos.classes,
        supercategory=photos.supercategory,
        size=size,
        suffixes=tuple(suffixes),
        shards=tuple(shards),
        index_digest=index_digest(index.tobytes()),
    )
    save_index(out, layout, index)
    remove(out / PLAN)
    return PackResult(
        path=out,
        shards=len(shards),
        photographs=len(index),
        bytes=sum(held for _, held, _ in shards),
        unreadable=tuple(unreadable),
        kept_shards=kept,
    )


def _members_of(
    photos: PhotoSet, samples: Samples, start: int, size: int | None, on_error: OnError
) -> Iterator[tuple[str, bytes]]:
    """The name and the bytes of each member, in order; unreadable photographs are left out if skipped."""

    def content(sample: Sample) -> tuple[bytes, str] | None:
        try:
            return _content(sample, size)
        except DataError:
            if on_error == "raise":
                raise
            return None

    with ThreadPoolExecutor(core_count()) as pool:
        for first in range(0, len(samples), _AHEAD):
            chunk = samples[first : first + _AHEAD]
            for number, found in enumerate(pool.map(content, chunk)):
                if found is None:
                    continue
                sample, number_in_all = chunk.sample(number), start + first + number
                facts = {"class": photos.classes[sample.label], "split": sample.split, "path": chunk.paths[number]}
                yield member_name(number_in_all, found[1]), found[0]
                yield member_name(number_in_all, ".cls"), str(sample.label).encode()
                yield member_name(number_in_all, ".json"), json.dumps(facts).encode()


def _rows(file: Path, samples: Samples, start: int, shard: int, suffixes: dict[str, int]) -> NDArray[np.void]:
    """The rows of the index for a shard; the photographs that are not in it could not be read."""
    found = {name: member for name, member in members(file).items() if Path(name).suffix not in (".cls", ".json")}
    rows = np.zeros(len(found), ROW)
    for row, (name, member) in enumerate(found.items()):
        number, suffix = int(Path(name).stem), Path(name).suffix
        rows[row] = (
            member.offset,
            member.size,
            shard,
            number,
            samples.labels[number - start],
            samples.splits[number - start],
            suffixes.setdefault(suffix, len(suffixes)),
            list(bytes.fromhex(photo_digest(Packed(inside(file, name), member)))),
        )
    return rows


def _content(sample: Sample, size: int | None) -> tuple[bytes, str]:
    """The bytes of a photograph as its shard will hold them, and the suffix of its name."""
    if not sample.has_file:
        return _encoded(sample.read(), "PNG"), ".png"
    height, width = image_size(sample.source)  # a broken photograph is named here
    if size is not None and min(height, width) > size:
        return _encoded(_scaled(sample.read(), size), "JPEG"), ".jpg"
    try:
        with open_photo(sample.source) as file:
            return file.read(), sample.path.suffix.lower()
    except OSError as error:
        raise DataError(f"cannot read the photograph {sample.path}: {error.strerror}") from None


def _scaled(image: Image.Image, size: int) -> Image.Image:
    factor = size / min(image.size)
    width, height = (max(1, round(side * factor)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC)


def _encoded(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.info = {}
    image.save(buffer, kind, quality=QUALITY)
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    """A member that depends on its content alone: no owner, no time."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))


def _file_size(sample: Sample) -> int:
    """The bytes of a photograph; -1 where it cannot be said, which reading it will."""
    if sample.member is not None:
        return sample.member.size
    try:
        return sample.path.stat().st_size
    except OSError:
        return -1
