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
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mpfgvc.config import OnError
from mpfgvc.data.headers import photo_digest
from mpfgvc.data.images import image_size
from mpfgvc.data.photo_list import relative_path
from mpfgvc.data.samples import PhotoSet, Sample
from mpfgvc.data.shard_index import (
    INDEX,
    LAYOUT,
    PLAN,
    ROW,
    SPLITS,
    Layout,
    ShardFile,
    index_digest,
    member_name,
    save_index,
)
from mpfgvc.data.tars import Packed as PackedPhoto
from mpfgvc.data.tars import inside, members, open_bytes
from mpfgvc.errors import ConfigError, DataError, OutputError
from mpfgvc.files import (
    LOCK,
    OWNER,
    claim_folder,
    make_folder,
    new_file,
    remove,
    remove_leftovers,
    write_text,
)
from mpfgvc.processes import core_count, seed_of
from mpfgvc.progress import Bar

QUALITY = 95
"""JPEG quality of resized copies."""
_AHEAD = 64  # photographs in memory at a time


@dataclass(frozen=True, kw_only=True)
class Packed:
    """What was packed: the folder, how much is in it, and which photographs could not be read."""

    path: Path
    shards: int
    photographs: int
    bytes: int
    unreadable: tuple[str, ...]
    kept_shards: int
    """Shards that were there already, from a pack that was stopped."""


@dataclass(frozen=True, kw_only=True)
class Pack:
    """How to pack: where to, how many photographs in a shard, and the shorter side of copies in pixels."""

    out: Path
    root: Path | None
    """What the paths in the `.json` start from."""
    per_shard: int = 1000
    size: int | None = None
    on_error: OnError = "raise"

    def __post_init__(self) -> None:
        for name, value, least in (("--per-shard", self.per_shard, 1), ("--size", self.size, 16)):
            if value is not None and value < least:
                raise ConfigError(f"{name} must be at least {least}, got {value}")

    def write(self, photos: PhotoSet) -> Packed:
        """Pack a dataset. Raises OutputError if the folder holds other things, DataError for a photograph."""
        make_folder(self.out)
        with claim_folder(self.out):
            remove_leftovers(self.out)
            plan = self._plan(photos)
            self._refuse_other(plan)
            write_text(self.out / PLAN, plan)
            return self._write(photos)

    def _write(self, photos: PhotoSet) -> Packed:
        writer = _Writer(self, photos)
        bar = Bar("pack", total=len(photos.samples))
        for shard in range(writer.count):
            writer.shard(shard)
            bar.advance(min(self.per_shard, len(photos.samples) - shard * self.per_shard))
        bar.close()
        layout, rows = writer.layout(), writer.rows()
        if not len(rows):
            raise DataError(f"{photos.name}: no photograph can be read, nothing is packed")
        save_index(self.out, layout, rows)
        remove(self.out / PLAN)
        return Packed(
            path=self.out,
            shards=len(layout.shards),
            photographs=layout.photographs,
            bytes=sum(shard.bytes for shard in layout.shards),
            unreadable=tuple(writer.unreadable),
            kept_shards=writer.kept,
        )

    def _plan(self, photos: PhotoSet) -> str:
        """What decides the content of every shard, so that a pack goes on only with the same."""
        digest = hashlib.blake2b(digest_size=16)
        for sample in photos.samples:
            size = _file_size(sample) if sample.has_file else 0
            name = relative_path(sample.path, self.root)
            row = f"{name}:{size}:{photos.classes[sample.label]}:{sample.split}\n"
            digest.update(row.encode(errors="surrogateescape"))
        plan = {"per_shard": self.per_shard, "size": self.size, "photographs": digest.hexdigest()}
        return json.dumps(plan) + "\n"

    def _refuse_other(self, plan: str) -> None:
        """Raise OutputError if the folder holds shards, another pack that was stopped, or other files."""
        if (self.out / LAYOUT).exists():
            raise OutputError(f"{self.out} holds packed shards already; choose another --out")
        if (self.out / PLAN).exists():
            if (self.out / PLAN).read_text() != plan:
                rule = "holds the beginning of another pack (other photographs, --size or --per-shard)"
                raise OutputError(f"{self.out} {rule}; remove it or choose another --out")
            return
        own = {LOCK, OWNER, INDEX}
        if other := sorted(entry.name for entry in self.out.iterdir() if entry.name not in own):
            raise OutputError(f"{self.out} holds other files ({other[0]}); choose another --out")


def shuffled(photos: PhotoSet, *, seed: int) -> PhotoSet:
    """The dataset in a random order that the seed decides, so that each shard holds all kinds of classes."""
    order = np.random.default_rng(seed_of(seed, "pack")).permutation(len(photos.samples))
    return replace(photos, samples=tuple(photos.samples[place] for place in order))


class _Writer:
    """Writes the shards of a pack one by one, and keeps what the index will hold."""

    def __init__(self, pack: Pack, photos: PhotoSet) -> None:
        self.pack, self.photos = pack, photos
        self.count = -(-len(photos.samples) // pack.per_shard)
        self.kept = 0
        self.unreadable: list[str] = []
        self._files: list[ShardFile] = []
        self._rows: list[NDArray[np.void]] = []
        self._suffixes: dict[str, int] = {}

    def shard(self, number: int) -> None:
        """Write a shard, unless it is there from a pack that was stopped, and note where its members are."""
        start = number * self.pack.per_shard
        samples = self.photos.samples[start : start + self.pack.per_shard]
        file = self.pack.out / f"{_stem(self.photos.name)}-{number:06d}.tar"
        if file.exists():
            self.kept += 1
        else:
            with new_file(file) as part, tarfile.open(part, "w", format=tarfile.USTAR_FORMAT) as archive:
                self._add(archive, samples, start)
        self._note(file, samples, start)

    def layout(self) -> Layout:
        """What `shards.json` will say."""
        return Layout(
            name=self.photos.name,
            classes=self.photos.classes,
            supercategory=self.photos.supercategory,
            size=self.pack.size,
            suffixes=tuple(self._suffixes),
            shards=tuple(self._files),
            index_digest=index_digest(self.rows()),
        )

    def rows(self) -> NDArray[np.void]:
        """The index."""
        return np.concatenate(self._rows) if self._rows else np.zeros(0, ROW)

    def _add(self, archive: tarfile.TarFile, samples: Sequence[Sample], start: int) -> None:
        for place, (sample, content, suffix) in enumerate(self._contents(samples), start):
            if content is None:
                continue
            name = self.photos.classes[sample.label]
            path = relative_path(sample.path, self.pack.root)
            facts = {"class": name, "split": sample.split, "path": path}
            _add(archive, member_name(place, suffix), content)
            _add(archive, member_name(place, ".cls"), str(sample.label).encode())
            _add(archive, member_name(place, ".json"), json.dumps(facts).encode())

    def _contents(self, samples: Sequence[Sample]) -> Iterator[tuple[Sample, bytes | None, str]]:
        """The bytes and the suffix of each photograph, in order; None for one that is left out."""
        with ThreadPoolExecutor(core_count()) as pool:
            for start in range(0, len(samples), _AHEAD):
                chunk = samples[start : start + _AHEAD]
                for sample, content in zip(chunk, pool.map(self._content, chunk), strict=True):
                    yield sample, *content

    def _content(self, sample: Sample) -> tuple[bytes | None, str]:
        try:
            return _content(sample, self.pack.size)
        except DataError:
            if self.pack.on_error == "raise":
                raise
            return None, ""

    def _note(self, file: Path, samples: Sequence[Sample], start: int) -> None:
        """Keep the rows of a shard; the photographs that are not in it could not be read."""
        found = {
            int(Path(name).stem): (Path(name).suffix, PackedPhoto(inside(file, name), member))
            for name, member in members(file).items()
            if Path(name).suffix not in (".cls", ".json")
        }
        rows = np.zeros(len(found), ROW)
        for place, (number, (suffix, photo)) in enumerate(found.items()):
            sample, member = samples[number - start], photo.member
            code = self._suffixes.setdefault(suffix, len(self._suffixes))
            split, digest = SPLITS.index(sample.split), list(bytes.fromhex(photo_digest(photo)))
            shard = len(self._files)
            rows[place] = (member.offset, member.size, shard, number, sample.label, split, code, digest)
        self._rows.append(rows)
        self._files.append(ShardFile(name=file.name, bytes=file.stat().st_size, photographs=len(found)))
        left_out = (each for place, each in enumerate(samples, start) if place not in found)
        self.unreadable += [str(sample.path) for sample in left_out]


def _content(sample: Sample, size: int | None) -> tuple[bytes, str]:
    """The bytes of a photograph as its shard will hold them, and the suffix of its name."""
    if not sample.has_file:
        return _encoded(sample.read(), "PNG"), ".png"
    height, width = image_size(sample.source)  # a broken photograph is named here
    if size is not None and min(height, width) > size:
        return _encoded(_scaled(sample.read(), size), "JPEG"), ".jpg"
    try:
        with open_bytes(sample.source) as file:
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
    source = sample.source
    try:
        return source.stat().st_size if isinstance(source, Path) else source.member.size
    except OSError:
        return -1


def _stem(name: str) -> str:
    """The name of a dataset as the beginning of a file name."""
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")[:60] or "shard"
