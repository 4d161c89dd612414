"""Look at every photograph before a day is spent on them: `mpfgvc data check [--fix FILE.csv]`.

Found without a model: what cannot be read, duplicates (duplicates.py), leaks and labels that disagree,
photographs without contrast or of unusual size and shape, classes with few photographs, and
class names that look alike.

The table that `--fix` writes is for `data.dataset: manifest`; no photograph is touched. Of each picture one
photograph stays: that of the test split, else of validation, else of training. So the test stays as large as
it was, while training loses what it must not have seen. Where the labels of one picture disagree, none of
its photographs stays, as only a person can say which label is right.
"""

from __future__ import annotations

import csv
import io
import statistics
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

from mpfgvc.config import NESTED_FOLDERS, DataConfig
from mpfgvc.data.catalog import dataset_root, official_counts, read_photos
from mpfgvc.data.duplicates import FLAT_LEVELS, Duplicate, Pair, all_pairs, duplicates_of, equal_files
from mpfgvc.data.images import reason_only
from mpfgvc.data.inspection import Header, Headers, check_headers, take_thumbnails
from mpfgvc.data.names import capitals_notes, similar_names
from mpfgvc.data.readers.folders import empty_class_folders
from mpfgvc.data.readers.tables import read_manifest
from mpfgvc.data.run_photos import photos_of_run
from mpfgvc.data.samples import PhotoSet, Split, relative_path
from mpfgvc.errors import ConfigError, DataError
from mpfgvc.files import new_file
from mpfgvc.run_folder import RunFolder

SMALL_SIDE = 64
"""A photograph whose shorter side has fewer pixels is reported as very small."""
FEW = 5
"""A class with fewer training photographs is reported."""
SIZE_FACTOR = 4.0
"""Reported: a photograph whose mean side is this many times larger or smaller than the median."""
SHAPE_FACTOR = 2.5
"""Reported: a photograph whose width over height is this many times larger or smaller than the median."""
_KEPT_FIRST = ("test", "validation", "train")


@dataclass(frozen=True, kw_only=True)
class Broken:
    """A photograph that cannot be read, and why."""

    path: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class ClassCount:
    """A class and the number of its photographs: over all splits, or in one that is named."""

    name: str
    count: int


@dataclass(frozen=True, kw_only=True)
class Unusual:
    """A photograph that is far from the rest, and in what."""

    path: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Report:
    """What is in a dataset and what is wrong with it. `counts` has the photographs of each split."""

    name: str
    classes: int
    counts: dict[str, int]
    complete: str | None
    """The official counts of a published dataset, if it has exactly these, and whether its classes have their
    official names; a subset has a note instead."""
    smallest: ClassCount
    largest: ClassCount
    single: tuple[str, ...]
    few: tuple[ClassCount, ...]
    """Classes with fewer than `FEW` training photographs, and how many they have."""
    empty: tuple[str, ...]
    """Class folders without photographs, which a training refuses."""
    similar_names: tuple[tuple[str, ...], ...]
    broken: tuple[Broken, ...]
    duplicates: tuple[Duplicate, ...]
    pairs: tuple[Pair, ...]
    small: tuple[str, ...]
    flat: tuple[str, ...]
    sizes: tuple[Unusual, ...]
    shapes: tuple[Unusual, ...]
    notes: tuple[str, ...]

    @property
    def leaks(self) -> tuple[Duplicate, ...]:
        """The duplicates that are in more than one split."""
        return tuple(duplicate for duplicate in self.duplicates if duplicate.leaks)

    @property
    def conflicts(self) -> tuple[Duplicate, ...]:
        """The duplicates whose labels disagree."""
        return tuple(duplicate for duplicate in self.duplicates if duplicate.disagrees)

    @property
    def falsifies(self) -> bool:
        """Whether a test would be wrong: there are leaks, or labels that disagree in a held-out split."""
        return any(duplicate.falsifies for duplicate in self.duplicates)

    @property
    def fine(self) -> bool:
        """Whether nothing was found that would break or falsify a run."""
        return self.exit_code == 0

    @property
    def exit_code(self) -> int:
        """0: fine, 1: a test would be falsified, 2: photographs or classes that a training cannot read."""
        return 2 if self.broken or self.empty else int(self.falsifies)

    def to_dict(self) -> dict[str, Any]:
        """A dictionary for JSON."""
        more = {
            "leaks": [asdict(leak) for leak in self.leaks],
            "conflicts": [asdict(conflict) for conflict in self.conflicts],
            "fine": self.fine,
        }
        return {**asdict(self), **more}


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A photograph that is not in the table, and why."""

    path: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class CleanManifest:
    """What was written."""

    path: str
    root: str
    kept: int
    left_out: tuple[LeftOut, ...]

    def to_dict(self) -> dict[str, Any]:
        """A dictionary for JSON."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class CheckedDataset:
    """What is checked: the photographs, where their paths start, and the class folders without any."""

    photos: PhotoSet
    root: Path
    empty: tuple[str, ...] = ()
    complete: str | None = None


def dataset_to_check(config: DataConfig, *, seed: int) -> CheckedDataset:
    """The dataset that the settings name. Raises DataError where its index or its folders are wrong."""
    root = dataset_root(config)
    if root is None:
        raise ConfigError("data.dataset: synthetic birds are drawn, there are no files to check")
    photos = read_photos(config, seed=seed, skip_empty=True)
    nested = config.taxonomy == NESTED_FOLDERS
    empty = empty_class_folders(root, nested=nested) if config.dataset == "folder" else ()
    return CheckedDataset(photos=photos, root=root, empty=empty, complete=official_counts(config.dataset, photos))


def run_to_check(
    run: str | Path, *, root: str | Path | None = None, manifest: str | Path | None = None
) -> CheckedDataset:
    """The photographs of a run, in the splits that it stored.

    `root` and `manifest` say where they are now, if they moved. Raises CheckpointError for a folder
    without a run, DataError if none of the photographs is there.
    """
    restored = photos_of_run(RunFolder.open(run), root=root, manifest=manifest)
    if restored.root is None:
        raise ConfigError(f"{run} was trained on synthetic birds: they are drawn, there are no files")
    return CheckedDataset(photos=replace(restored.photos, notes=restored.notes), root=restored.root)


def check(dataset: CheckedDataset, *, quick: bool = False) -> Report:
    """Check what was read."""
    report = check_photos(dataset.photos, quick=quick)
    return replace(report, empty=dataset.empty, complete=dataset.complete)


def check_photos(photos: PhotoSet, *, quick: bool = False) -> Report:
    """Open every photograph of a dataset, on all cores.

    `quick` reads the headers only: it finds fewer broken files and no flat ones, and of duplicates only files
    of equal size, beginning and end, without comparing the rest.
    """
    headers = check_headers(photos.samples, "skip")
    seen = None if quick else take_thumbnails(list(headers.found))
    equal = equal_files(photos.samples, _digests(headers), whole_files=not quick)
    pairs = tuple(all_pairs(photos, equal, seen))
    broken = {**headers.broken, **({} if seen is None else seen.broken)}
    flat = [] if seen is None else zip(seen.paths, seen.contrast < FLAT_LEVELS, strict=True)
    return Report(
        name=photos.name,
        classes=len(photos.classes),
        **_class_counts(photos),
        complete=None,
        empty=(),
        similar_names=similar_names(photos.classes),
        broken=tuple(Broken(path=str(path), reason=reason_only(reason, path)) for path, reason in broken.items()),
        duplicates=duplicates_of(photos, pairs),
        pairs=pairs,
        small=tuple(str(path) for path, each in headers.found.items() if min(each.height, each.width) < SMALL_SIDE),
        flat=tuple(str(path) for path, is_flat in flat if is_flat),
        sizes=unusual_sizes(headers.found),
        shapes=unusual_shapes(headers.found),
        notes=tuple(dict.fromkeys((*photos.notes, *capitals_notes(photos.classes)))),
    )


def write_clean_manifest(report: Report, photos: PhotoSet, *, root: Path, out: Path) -> CleanManifest:
    """Write the table, with paths below `root`.

    Raises OutputError, and DataError if what is left is no dataset: a class may have lost all its training
    photographs.
    """
    reasons = _reasons(report, photos)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("path", "label", "split"))
    for sample in photos.samples:
        if str(sample.path) not in reasons:
            table.writerow((relative_path(sample.path, root), photos.classes[sample.label], sample.split))
    with new_file(out) as part:
        part.write_bytes(text.getvalue().encode(errors="surrogateescape"))
        try:
            read_manifest(part, root, test_share=0, seed=0, check_files=False)
        except DataError as error:
            reason = str(error).replace(str(part), str(out))
            raise DataError(f"cannot write {out} without leaks and duplicates: {reason}") from None
    left_out = tuple(LeftOut(path=path, reason=reason) for path, reason in reasons.items())
    kept = len(photos.samples) - len(reasons)
    return CleanManifest(path=str(out), root=str(root), kept=kept, left_out=left_out)


def unusual_sizes(headers: Mapping[Path, Header]) -> tuple[Unusual, ...]:
    """Photographs whose size is far from that of the rest."""
    sides = {path: (each.height * each.width) ** 0.5 for path, each in headers.items()}
    return _far(sides, headers, SIZE_FACTOR, "the usual mean side is {:.0f}")


def unusual_shapes(headers: Mapping[Path, Header]) -> tuple[Unusual, ...]:
    """Photographs whose shape is far from that of the rest."""
    shapes = {path: each.width / each.height for path, each in headers.items()}
    return _far(shapes, headers, SHAPE_FACTOR, "the usual width over height is {:.2f}")


def _digests(headers: Headers) -> dict[Path, str]:
    return {path: header.digest for path, header in headers.found.items()}


def _class_counts(photos: PhotoSet) -> dict[str, Any]:
    """The fields of a report that count photographs."""
    splits = Counter(sample.split for sample in photos.samples)
    members = Counter(sample.label for sample in photos.samples)
    trained = Counter(sample.label for sample in photos.samples if sample.split == "train")
    sizes = [ClassCount(name=name, count=members[label]) for label, name in enumerate(photos.classes)]
    training = [ClassCount(name=name, count=trained[label]) for label, name in enumerate(photos.classes)]
    return {
        "counts": {split: splits[split] for split in get_args(Split)},
        "smallest": min(sizes, key=lambda size: size.count),
        "largest": max(sizes, key=lambda size: size.count),
        "single": tuple(size.name for size in sizes if size.count == 1),
        "few": tuple(size for size in training if size.count < FEW),
    }


def _reasons(report: Report, photos: PhotoSet) -> Mapping[str, str]:
    """Why each photograph that does not stay is left out."""
    reasons = {broken.path: "cannot be read" for broken in report.broken}
    splits = {str(sample.path): sample.split for sample in photos.samples}
    for group in report.duplicates:
        readable = [path for path in group.paths if path not in reasons]
        if not readable:  # equal files with broken pixels
            continue
        if group.disagrees:
            reasons |= {path: f"labels disagree: {', '.join(group.classes)}" for path in readable}
            continue
        kept, *others = sorted(readable, key=lambda path: _KEPT_FIRST.index(splits[path]))
        reasons |= dict.fromkeys(others, f"same picture as {kept} ({splits[kept]})")
    return reasons


def _far(
    values: Mapping[Path, float], headers: Mapping[Path, Header], factor: float, usual: str
) -> tuple[Unusual, ...]:
    if not values:
        return ()
    middle = statistics.median(values.values())
    return tuple(
        Unusual(path=str(path), reason=f"{headers[path].width} x {headers[path].height}, {usual.format(middle)}")
        for path, value in values.items()
        if not middle / factor < value < middle * factor
    )
