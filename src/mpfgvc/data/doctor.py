"""Look at every photograph before a day is spent on them: `mpfgvc data check [--fix FILE.csv]`.

Whatever is wrong is a `Finding`, which the table, the page and JSON print. Found without a model: what
cannot be read, photographs of one picture (duplicates.py) in two splits or with several labels, photographs
without contrast or of unusual size and shape, and classes that are empty, small, or missing in a split.

The table that `--fix` writes is for `data.dataset: manifest`; no photograph is touched. Of each picture one
photograph stays: that of the test split, else of validation, else of training. So the test stays as large as
it was, while training loses what it must not have seen. Where the labels of one picture disagree, none of
its photographs stays, as only a person can say which label is right.
"""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mpfgvc.config import NESTED_FOLDERS, DataConfig
from mpfgvc.data.catalog import dataset_root, official_counts, read_photos
from mpfgvc.data.duplicates import FLAT_LEVELS, Pair, groups_of, same_pictures
from mpfgvc.data.images import reason_only
from mpfgvc.data.inspection import check_headers, take_thumbnails
from mpfgvc.data.names import capitals_notes, similar_names
from mpfgvc.data.readers.folders import empty_class_folders
from mpfgvc.data.readers.tables import read_manifest
from mpfgvc.data.run_photos import photos_of_run
from mpfgvc.data.samples import SPLITS, PhotoSet, Sample, Samples, relative_path
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
MOST_NAMES = 20
"""Classes of one finding that are printed; JSON has all."""
BROKEN, LEAK, CONFLICT, DUPLICATE = "cannot be read", "in two splits", "labels disagree", "duplicate"
_KEPT_FIRST = ("test", "validation", "train")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What is wrong, by a word or two, with photographs or classes; `text` says more."""

    kind: str
    text: str = ""
    paths: tuple[str, ...] = ()
    """The photographs, in the order of the dataset."""
    splits: tuple[str, ...] = ()
    """Their splits, each once."""
    classes: tuple[str, ...] = ()
    """Their classes, each once; or the classes that are meant, an empty one by its folder."""
    beside: str | None = None
    """A photograph to compare them with."""
    exit_code: int = 0
    """1 if a test would be wrong because of it, 2 if a training could not read it."""

    @property
    def line(self) -> str:
        """The photographs or classes, and the text."""
        names = self.paths or (*self.classes[:MOST_NAMES], *("..." for _ in self.classes[MOST_NAMES : MOST_NAMES + 1]))
        return f"{', '.join(names)} ({self.text})" if names and self.text else ", ".join(names) or self.text


@dataclass(frozen=True, kw_only=True)
class Report:
    """What is in a dataset, and what is wrong with it."""

    name: str
    class_counts: dict[str, int]
    """The photographs of each class."""
    counts: dict[str, int]
    """The photographs of each split."""
    complete: str | None
    """The official counts of a published dataset, if it has exactly these, and whether its classes have their
    official names; a subset has a note instead."""
    findings: tuple[Finding, ...]

    @property
    def exit_code(self) -> int:
        """0: fine, 1: a test would be wrong, 2: photographs or classes that a training cannot read."""
        return max((finding.exit_code for finding in self.findings), default=0)

    def of(self, kind: str) -> list[Finding]:
        """The findings of one kind."""
        return [finding for finding in self.findings if finding.kind == kind]

    def to_dict(self) -> dict[str, Any]:
        """A dictionary for JSON."""
        return {**asdict(self), "classes": len(self.class_counts), "fine": self.exit_code == 0}


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
    """Open every photograph of a dataset, on all cores.

    `quick` reads the headers only: it finds fewer broken files and no flat ones, and of duplicates only files
    of equal size, beginning and end, without comparing the rest.
    """
    photos = dataset.photos
    headers = check_headers(photos.samples, "skip")
    found = headers.found
    seen = None if quick else take_thumbnails(list(found))
    broken = {**headers.broken, **({} if seen is None else seen.broken)}
    reasons = {path: reason_only(reason, path) for path, reason in broken.items()}
    flat = [] if seen is None else zip(seen.paths, seen.contrast, strict=True)
    sides = {path: float(header.height * header.width) ** 0.5 for path, header in found.items()}
    shapes = {path: header.width / header.height for path, header in found.items()}
    sizes = {path: f"{header.width} x {header.height}" for path, header in found.items()}
    about = {
        "very small": {
            path: sizes[path] for path, header in found.items() if min(header.height, header.width) < SMALL_SIDE
        },
        "no contrast": {path: "" for path, contrast in flat if contrast < FLAT_LEVELS},
        "unusual size": _unusual(sides, sizes, SIZE_FACTOR, "the usual mean side is {:.0f}"),
        "unusual shape": _unusual(shapes, sizes, SHAPE_FACTOR, "the usual width over height is {:.2f}"),
    }
    samples = {sample.path: sample for sample in photos.samples}
    digests = {path: header.digest for path, header in found.items()}
    findings = [
        *(finding_of(photos, BROKEN, [samples[path]], text, exit_code=2) for path, text in reasons.items()),
        *_same_pictures(photos, same_pictures(photos.samples, digests, seen)),
        *(finding_of(photos, kind, [samples[path]], texts[path]) for kind, texts in about.items() for path in texts),
        *(Finding(kind="empty class", classes=(folder,), exit_code=2) for folder in dataset.empty),
        *_class_findings(photos),
    ]
    counts = photos.samples.counts(len(photos.classes)).tolist()
    return Report(
        name=photos.name,
        class_counts=dict(zip(photos.classes, counts, strict=True)),
        counts={split: len(photos.subset(split)) for split in SPLITS},
        complete=dataset.complete,
        findings=tuple(findings),
    )


def finding_of(
    photos: PhotoSet,
    kind: str,
    samples: Iterable[Sample],
    text: str = "",
    *,
    beside: Path | None = None,
    exit_code: int = 0,
) -> Finding:
    """A finding about photographs of a dataset."""
    found = list(samples)
    return Finding(
        kind=kind,
        text=text,
        paths=tuple(str(sample.path) for sample in found),
        splits=tuple(sorted({sample.split for sample in found})),
        classes=tuple(photos.classes[label] for label in sorted({sample.label for sample in found})),
        beside=None if beside is None else str(beside),
        exit_code=exit_code,
    )


def write_clean_manifest(report: Report, dataset: CheckedDataset, out: Path) -> dict[str, str]:
    """Write the table, with paths below the root; returns why each photograph is left out, by its path.

    Raises OutputError, and DataError if what is left is no dataset: a class may have lost all its training
    photographs.
    """
    photos, root = dataset.photos, dataset.root
    reasons = _left_out(report, photos.samples)
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
    return reasons


def _left_out(report: Report, samples: Samples) -> dict[str, str]:
    reasons = {path: BROKEN for finding in report.of(BROKEN) for path in finding.paths}
    splits = {str(sample.path): sample.split for sample in samples}
    for group in (finding for kind in (LEAK, CONFLICT, DUPLICATE) for finding in report.of(kind)):
        readable = [path for path in group.paths if path not in reasons]
        if len(group.classes) > 1:
            reasons |= {path: f"labels disagree: {', '.join(group.classes)}" for path in readable}
        elif readable:  # equal files may all have broken pixels
            kept, *others = sorted(readable, key=lambda path: _KEPT_FIRST.index(splits[path]))
            reasons |= dict.fromkeys(others, f"same picture as {kept} ({splits[kept]})")
    return reasons


def _same_pictures(photos: PhotoSet, pairs: Sequence[Pair]) -> list[Finding]:
    """A finding for each picture, those first that make a test wrong."""
    found = []
    for group, kinds in groups_of(photos.samples, pairs):
        splits, labels = {sample.split for sample in group}, {sample.label for sample in group}
        kind = LEAK if len(splits) > 1 else CONFLICT if len(labels) > 1 else DUPLICATE
        wrong = kind == LEAK or (kind == CONFLICT and splits != {"train"})
        finding = finding_of(photos, kind, group, exit_code=int(wrong))
        where = f"splits: {', '.join(finding.splits)}; classes: {', '.join(finding.classes)}"
        found.append(replace(finding, text=f"{', '.join(kinds)}; {where}"))
    return sorted(found, key=lambda finding: (LEAK, CONFLICT, DUPLICATE).index(finding.kind))


def _class_findings(photos: PhotoSet) -> Iterator[Finding]:
    names = photos.classes
    for name, count in zip(names, photos.samples.counts(len(names)), strict=True):
        if count == 1:
            yield Finding(kind="one photograph", classes=(name,))
    for name, count in zip(names, photos.subset("train").counts(len(names)), strict=True):
        if count < FEW:
            yield Finding(kind="few to train on", classes=(name,), text=str(count))
    for split in SPLITS[1:]:
        counts = photos.subset(split).counts(len(names))
        missing = [name for name, count in zip(names, counts, strict=True) if count == 0]
        if 0 < len(missing) < len(names):
            text = f"the {split} split has none of {len(missing)} of {len(names)} classes"
            yield Finding(kind="class missing", classes=tuple(missing), text=text)
    for group in similar_names(names):
        yield Finding(kind="alike names", classes=group)
    for note in dict.fromkeys((*photos.notes, *capitals_notes(names))):
        yield Finding(kind="note", text=note)


def _unusual(values: Mapping[Path, float], sizes: Mapping[Path, str], factor: float, usual: str) -> dict[Path, str]:
    """The photographs whose value is far from the median of all."""
    middle = statistics.median(values.values()) if values else 0.0
    return {
        path: f"{sizes[path]}, {usual.format(middle)}"
        for path, value in values.items()
        if not middle / factor < value < middle * factor
    }
