"""Look at every photograph before a day is spent on them: `mpfgvc data check`."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

from PIL import ImageStat

from mpfgvc.config import DataConfig
from mpfgvc.data.catalog import read_photos
from mpfgvc.data.class_names import capitals_notes
from mpfgvc.data.headers import Headers, check_headers
from mpfgvc.data.images import read_image, reason_only
from mpfgvc.data.run_photos import photos_of_run
from mpfgvc.data.samples import PhotoSet, Sample, Split
from mpfgvc.errors import ConfigError, DataError
from mpfgvc.launcher import core_count
from mpfgvc.run_folder import RunFolder

SMALL_SIDE = 64
"""A photograph whose shorter side has fewer pixels is reported as very small."""
FLAT_LEVELS = 3.0
"""A photograph whose gray levels (0..255) have a smaller standard deviation is reported as flat."""
_LOOKED_AT = (64, 64)


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
    flat: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def leaks(self) -> tuple[Duplicate, ...]:
        """The duplicates that are in more than one split."""
        return tuple(duplicate for duplicate in self.duplicates if duplicate.leaks)

    @property
    def fine(self) -> bool:
        """Whether nothing was found that would break or falsify a run."""
        return not self.broken and not self.leaks

    def to_dict(self) -> dict[str, Any]:
        """A dictionary for JSON."""
        leaks = [asdict(leak) for leak in self.leaks]
        return {**asdict(self), "leaks": leaks, "fine": self.fine}


def check_dataset(config: DataConfig, *, seed: int, quick: bool = False) -> Report:
    """Read the dataset that the settings name and check it.

    Raises DataError where the dataset's index or folders themselves are wrong.
    """
    if config.dataset == "synthetic":
        raise ConfigError("data.dataset: synthetic birds are drawn, there are no files to check")
    return check_photos(read_photos(config, seed=seed), quick=quick)


def check_run(
    run: str | Path,
    *,
    root: str | Path | None = None,
    manifest: str | Path | None = None,
    quick: bool = False,
) -> Report:
    """Check the photographs of a run, in the splits that it stored.

    `root` and `manifest` say where they are now, if they moved. Raises CheckpointError for a folder
    without a run, DataError if none of the photographs is there.
    """
    restored = photos_of_run(RunFolder.open(run), root=root, manifest=manifest)
    return check_photos(replace(restored.photos, notes=restored.notes), quick=quick)


def check_photos(photos: PhotoSet, *, quick: bool = False) -> Report:
    """Open every photograph of a dataset, on all cores.

    `quick` reads the headers only: it finds fewer broken files and no flat ones, and it takes
    files of equal size, beginning and end for duplicates without comparing the rest.
    """
    headers = check_headers(photos.samples, "skip")
    broken = dict(headers.broken)
    flat: list[Path] = []
    if not quick:
        with ThreadPoolExecutor(max_workers=core_count()) as pool:
            for path, contrast in zip(headers.found, pool.map(_contrast, headers.found), strict=True):
                if isinstance(contrast, str):
                    broken[path] = contrast
                elif contrast < FLAT_LEVELS:
                    flat.append(path)
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
        broken=tuple(
            Broken(path=str(path), reason=reason_only(reason, path)) for path, reason in broken.items()
        ),
        duplicates=_duplicates(photos, headers, whole_files=not quick),
        small=tuple(
            str(path) for path, each in headers.found.items() if min(each.height, each.width) < SMALL_SIDE
        ),
        flat=tuple(str(path) for path in flat),
        notes=tuple(dict.fromkeys((*photos.notes, *capitals_notes(photos.classes)))),
    )


def _contrast(path: Path) -> float | str:
    """The standard deviation of a photograph's gray levels, or why it cannot be read."""
    try:
        return float(ImageStat.Stat(read_image(path, at_least=_LOOKED_AT).convert("L")).stddev[0])
    except DataError as error:
        return str(error)


def _duplicates(photos: PhotoSet, headers: Headers, *, whole_files: bool) -> tuple[Duplicate, ...]:
    read = [sample for sample in photos.samples if sample.path in headers.found]
    groups = _groups((sample, headers.found[sample.path].digest) for sample in read)
    if whole_files:
        groups = [
            same for group in groups for same in _groups((each, _whole_digest(each.path)) for each in group)
        ]
    return tuple(
        Duplicate(
            paths=tuple(str(sample.path) for sample in group),
            splits=tuple(sorted({sample.split for sample in group})),
            classes=tuple(photos.classes[label] for label in sorted({sample.label for sample in group})),
        )
        for group in groups
    )


def _groups(digests: Iterable[tuple[Sample, str]]) -> list[list[Sample]]:
    """The samples that share a digest with another one."""
    groups: dict[str, list[Sample]] = defaultdict(list)
    for sample, digest in digests:
        groups[digest].append(sample)
    return [group for group in groups.values() if len(group) > 1]


def _whole_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()
