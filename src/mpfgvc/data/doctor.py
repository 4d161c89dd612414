"""Look at every photograph before a day is spent on them: `mpfgvc data check`."""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

from mpfgvc.config import DataConfig
from mpfgvc.data.catalog import read_photos
from mpfgvc.data.images import image_size, read_image
from mpfgvc.data.samples import PhotoSet, Sample, Split
from mpfgvc.errors import ConfigError, DataError

SMALL_SIDE = 64
"""A photograph whose shorter side has fewer pixels is reported as very small."""


@dataclass(frozen=True, kw_only=True)
class Broken:
    """A photograph that cannot be read, and why."""

    path: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Duplicate:
    """Files of equal content. Across splits they leak; in several classes one label is wrong."""

    paths: tuple[str, ...]
    splits: tuple[str, ...]
    classes: tuple[str, ...]

    @property
    def leaks(self) -> bool:
        """Whether a photograph is both learned from and tested on."""
        return len(self.splits) > 1


@dataclass(frozen=True, kw_only=True)
class ClassCount:
    """A class and the number of its photographs over all splits."""

    name: str
    count: int


@dataclass(frozen=True, kw_only=True)
class Report:
    """What is in a dataset and what is wrong with it. `counts` has the photographs of each split."""

    name: str
    classes: int
    counts: dict[str, int]
    smallest: ClassCount
    largest: ClassCount
    single: tuple[str, ...]
    broken: tuple[Broken, ...]
    duplicates: tuple[Duplicate, ...]
    small: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def leaks(self) -> tuple[Duplicate, ...]:
        """The duplicates that lie in more than one split."""
        return tuple(duplicate for duplicate in self.duplicates if duplicate.leaks)

    @property
    def fine(self) -> bool:
        """Whether nothing was found that would break or falsify a run."""
        return not self.broken and not self.leaks

    def to_dict(self) -> dict[str, Any]:
        """A dictionary for JSON."""
        leaks = [asdict(leak) for leak in self.leaks]
        return {**asdict(self), "leaks": leaks, "fine": self.fine}


@dataclass(frozen=True, kw_only=True)
class _Finding:
    sample: Sample
    reason: str = ""
    side: int = 0
    digest: bytes = b""


def check_photos(config: DataConfig, *, seed: int, quick: bool = False) -> Report:
    """Read the dataset and open every photograph of it, on all cores.

    `quick` reads the headers alone: it finds fewer broken files, and no duplicates.
    Raises DataError where the dataset's index or folders themselves are wrong.
    """
    if config.dataset == "synthetic":
        raise ConfigError("data.dataset: synthetic birds are drawn, there are no files to check")
    photos = read_photos(config, seed=seed)
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        findings = list(pool.map(_look_quickly if quick else _look, photos.samples))
    counts = Counter(sample.split for sample in photos.samples)
    members = Counter(sample.label for sample in photos.samples)
    sizes = [ClassCount(name=name, count=members[label]) for label, name in enumerate(photos.classes)]
    return Report(
        name=photos.name,
        classes=len(photos.classes),
        counts={split: counts[split] for split in get_args(Split)},
        smallest=min(sizes, key=lambda size: size.count),
        largest=max(sizes, key=lambda size: size.count),
        single=tuple(size.name for size in sizes if size.count == 1),
        broken=tuple(Broken(path=str(f.sample.path), reason=f.reason) for f in findings if f.reason),
        duplicates=_duplicates(photos, findings),
        small=tuple(str(f.sample.path) for f in findings if 0 < f.side < SMALL_SIDE),
        notes=photos.notes,
    )


def _look(sample: Sample) -> _Finding:
    try:
        side = min(read_image(sample.path).size)
        return _Finding(sample=sample, side=side, digest=_digest(sample.path))
    except DataError as error:
        return _Finding(sample=sample, reason=str(error))


def _look_quickly(sample: Sample) -> _Finding:
    try:
        return _Finding(sample=sample, side=min(image_size(sample.path)))
    except DataError as error:
        return _Finding(sample=sample, reason=str(error))


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").digest()


def _duplicates(photos: PhotoSet, findings: Sequence[_Finding]) -> tuple[Duplicate, ...]:
    groups: dict[bytes, list[Sample]] = defaultdict(list)
    for finding in findings:
        if finding.digest:
            groups[finding.digest].append(finding.sample)
    return tuple(
        Duplicate(
            paths=tuple(str(sample.path) for sample in group),
            splits=tuple(sorted({sample.split for sample in group})),
            classes=tuple(photos.classes[label] for label in sorted({sample.label for sample in group})),
        )
        for group in groups.values()
        if len(group) > 1
    )
