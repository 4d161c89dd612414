"""The photographs of a run, wherever its dataset is now, and other labelled sets with the labels of a run.

A dataset may grow or shrink after a training, and a split that is drawn again would then put photographs
that were trained on into the test. So the run stores its split, `photographs.json`: for each photograph the
path below the dataset's root, the class, the split, and a short digest of the file. What was added to the
dataset since then is in no split; what is missing is named.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mpfgvc.config import DataConfig, OnError
from mpfgvc.data.catalog import OFFICIAL, dataset_root, existing_folder, moved, read_photos
from mpfgvc.data.inspection import check_headers, photo_digest
from mpfgvc.data.listing import missing_files
from mpfgvc.data.names import look
from mpfgvc.data.photographs_file import PHOTOGRAPHS, load_photos
from mpfgvc.data.readers.birds import read_birds
from mpfgvc.data.readers.folders import official_layout, read_labelled_folders
from mpfgvc.data.readers.tables import read_labelled_manifest
from mpfgvc.data.samples import LabelledPhoto, PhotoSet, Sample, Samples, Split, counted, in_short, relative_path
from mpfgvc.data.tars import MARK
from mpfgvc.errors import CheckpointError, ConfigError, DataError, MpfgvcError
from mpfgvc.processes import core_count
from mpfgvc.progress import say
from mpfgvc.run_folder import RunFolder

MOST_UNKNOWN = 5
"""Unknown classes that a refusal names."""
Digests = NDArray[np.bytes_]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class RunPhotos:
    """All photographs of a run in their splits, where the dataset is now; their digests are those of then.

    `missing` and `added` are paths below the dataset's root; `notes` say the same to people.
    """

    photos: PhotoSet
    missing: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def root(self) -> Path | None:
        """Where the dataset is; None for drawn birds."""
        return self.photos.samples.root

    def found(self, split: Split) -> Samples:
        """The photographs of a split that are there, in their order."""
        samples, gone = self.photos.subset(split), set(self.missing)
        return samples.take([path not in gone for path in samples.paths]) if gone else samples

    def refuse_changed(self, now: PhotoSet) -> None:
        """Raise DataError if photographs of `now` have other content than when the run began."""
        changed = np.flatnonzero(differing(self.photos.samples.digests, now.samples.digests))
        if len(changed):
            first = now.samples.path(changed[0])
            count = f"{len(changed)} photographs changed after the run began, first {first}"
            raise DataError(f"{count}; put back the photographs of the run, or start a new run")

    def refuse_missing(self) -> None:
        """Raise DataError if photographs are missing; a training that continues needs all of them."""
        if self.missing:
            what = f"photographs of the run that are missing in {self.root}"
            hint = "put them back, or say where the dataset is with --data.root"
            raise DataError(f"{counted(what, self.missing, len(self.photos.samples))}; {hint}")


@dataclass(frozen=True, kw_only=True)
class LabelledSet:
    """The photographs of a labelled set; labels are indices into the classes of the run."""

    samples: Samples
    notes: tuple[str, ...]


def with_digests(photos: PhotoSet, on_error: OnError) -> PhotoSet:
    """The photographs with their digests, once the headers of all of them have been read.

    Those of packed shards were read when they were packed, and their list has the digests. Raises DataError
    naming a broken photograph, unless these are skipped: then it is said.
    """
    samples = photos.samples
    packed = (samples.root or Path()) / PHOTOGRAPHS
    if MARK in samples.paths[0] and packed.is_file():
        known = load_photos(packed).samples
        found = dict(zip(map(packed.parent.joinpath, known.paths), known.digests, strict=True))
    else:
        headers = check_headers(samples, on_error)
        if headers.broken:
            what = "photographs are broken and will be skipped"
            say(counted(what, [str(path) for path in headers.broken], len(samples)))
        found = {path: header.digest.encode() for path, header in headers.found.items()}
    digests = np.array([found.get(sample.path, b"") for sample in samples], "S32")
    return replace(photos, samples=replace(samples, digests=digests))


def photos_of_run(
    folder: RunFolder, *, root: str | Path | None = None, manifest: str | Path | None = None
) -> RunPhotos:
    """The photographs of a run; `root` and `manifest` say where the dataset is now, if it moved.

    Raises CheckpointError for a damaged list, DataError if none of the photographs is there.
    """
    config = moved(folder.read_config().data, root=root, manifest=manifest)
    return restore(load_photos(folder.photographs), config)


def restore(stored: PhotoSet, config: DataConfig) -> RunPhotos:
    """The photographs of a list in the dataset that the settings name.

    Raises DataError if none of them is there, CheckpointError if the settings draw other synthetic birds.
    """
    root = dataset_root(config)
    if root is None:
        return _drawn_again(stored, config)
    samples = replace(stored.samples, root=root)
    gone = set(missing_files([samples.path(row) for row in range(len(samples))]))
    missing = [name for row, name in enumerate(samples.paths) if samples.path(row) in gone]
    if len(missing) == len(samples):
        count = f"none of the {len(samples)} photographs of the run is in {root}"
        raise DataError(f"{count}, first {missing[0]}; say where the dataset is with --data.root")
    added, notes = _added(samples, config)
    if missing:
        notes = [counted("photographs of the run that are missing", missing, len(samples)), *notes]
    return RunPhotos(
        photos=replace(stored, samples=samples), missing=tuple(missing), added=tuple(added), notes=tuple(notes)
    )


def is_dataset_of(
    stored: PhotoSet, config: DataConfig, *, root: str | Path | None, manifest: str | Path | None
) -> bool:
    """Whether `root` and `manifest` name the dataset of the run at another place, or else another dataset.

    It is the run's if at least half of the test photographs are there under their paths, and have the
    digests of then where these are known. Without a test split all photographs count.
    """
    if config.dataset == "synthetic" or (manifest is not None and config.dataset != "manifest"):
        return False
    data = moved(config, root=root, manifest=manifest)
    wanted = replace(stored.subset("test") or stored.samples, root=dataset_root(data))
    now = current_digests(wanted)
    there = now != b""
    if manifest is not None and wanted.root is not None:
        rows = read_labelled_manifest(Path(manifest), wanted.root, check_files=False)
        named = {relative_path(row.path, wanted.root) for row in rows}
        there &= [path in named for path in wanted.paths]
    return bool(2 * np.count_nonzero(there & ~differing(wanted.digests, now)) >= len(wanted))


def current_digests(samples: Samples) -> Digests:
    """The digest of each file as it is now, read in parallel; empty for one that cannot be read."""
    order = sorted(range(len(samples)), key=samples.paths.__getitem__)  # one tar file after the other
    digests = np.zeros(len(samples), "S32")
    with ThreadPoolExecutor(max_workers=min(32, 4 * core_count())) as pool:
        digests[order] = list(pool.map(_digest, (samples[row] for row in order)))
    return digests


def differing(first: Digests, second: Digests) -> Mask:
    """Where two digests are known and not the same."""
    different: Mask = (first != second) & (first != b"") & (second != b"")
    return different


def read_labelled_set(
    *, root: str | Path | None, manifest: str | Path | None, classes: Sequence[str], split: Split, nested: bool = False
) -> LabelledSet:
    """A labelled set that a run has never seen: class folders, a table, or an official layout.

    Nothing is held out from it. If it names splits, `split` is taken, or everything if it has no test split.
    `nested`: class folders are inside the folders of their groups.
    Raises DataError for a class that is not one of `classes`, and for a split that the set does not have.
    """
    folder = Path(root).expanduser() if root is not None else None
    photos, notes, base = _labelled(folder, Path(manifest) if manifest is not None else None, nested)
    name = str(manifest if manifest is not None else folder)
    if not photos:
        raise DataError(f"{name} holds no photographs; check the path")
    labels = _labels({photo.class_name for photo in photos}, classes, name)
    chosen, note = _of_split(photos, split, name)
    rows = [(relative_path(photo.path, base), labels[photo.class_name], split) for photo in chosen]
    return LabelledSet(samples=Samples.of(base, rows), notes=(note, *notes))


def _digest(sample: Sample) -> str:
    try:
        return photo_digest(sample.path)
    except (OSError, ValueError):
        return ""


def _drawn_again(stored: PhotoSet, config: DataConfig) -> RunPhotos:
    drawn = read_birds(config.birds)
    same = drawn.classes == stored.classes and np.array_equal(drawn.samples.paths, stored.samples.paths)
    if not same or not np.array_equal(drawn.samples.labels, stored.samples.labels):
        raise CheckpointError(
            "photographs.json lists other synthetic birds than data.birds of config.yaml; restore both files"
        )
    return RunPhotos(photos=replace(stored, samples=replace(drawn.samples, splits=stored.samples.splits)))


def _added(samples: Samples, config: DataConfig) -> tuple[list[str], list[str]]:
    """The photographs of the dataset today that are not in the list, and notes on them."""
    try:
        today = read_photos(config, seed=0, check_files=False).samples
    except MpfgvcError as error:
        return [], [f"the dataset cannot be read as it is now, to look for added photographs: {error}"]
    listed = set(samples.paths)
    added = [name for name in today.paths if name not in listed]
    what = "photographs added to the dataset after the run began, in no split and left out"
    return added, [counted(what, added)] if added else []


def _labelled(
    root: Path | None, manifest: Path | None, nested: bool
) -> tuple[list[LabelledPhoto], tuple[str, ...], Path]:
    """The photographs of a set, notes on what is left out, and what their paths start from."""
    if manifest is not None:
        base = root or manifest.parent
        return read_labelled_manifest(manifest, base), (), base
    if root is None:
        raise ConfigError("a labelled set needs --data.root or --data.manifest")
    layout = official_layout(existing_folder(root))
    if layout is None:
        photos, notes = read_labelled_folders(root, nested=nested)
        return photos, tuple(notes), root
    read = OFFICIAL[layout[0]].read(root)
    named = [LabelledPhoto(sample.path, read.classes[sample.label], sample.split) for sample in read.samples]
    return named, read.notes, root


def _labels(names: set[str], classes: Sequence[str], where: str) -> dict[str, int]:
    """The label of each class name. Names that look the same are the same class."""
    known = {look(name): label for label, name in enumerate(classes)}
    unknown = sorted(name for name in names if look(name) not in known)
    if unknown:
        shown = "; ".join(_with_near(name, classes) for name in unknown[:MOST_UNKNOWN])
        more = "; ..." if len(unknown) > MOST_UNKNOWN else ""
        count = f"classes of {where} that the run does not know: {len(unknown)} of {len(names)}"
        raise DataError(f"{count} ({shown}{more}); rename them as the run does, or remove them")
    return {name: known[look(name)] for name in names}


def _with_near(name: str, classes: Sequence[str]) -> str:
    folded = {known.casefold(): known for known in classes}
    near = difflib.get_close_matches(name.casefold(), folded, n=1)
    return f"{name!r}, near {folded[near[0]]!r}" if near else repr(name)


def _of_split(photos: list[LabelledPhoto], split: Split, name: str) -> tuple[list[LabelledPhoto], str]:
    """The photographs to take, and a line that says which."""
    splits = {photo.split for photo in photos if photo.split is not None}
    chosen = [photo for photo in photos if photo.split == split]
    if chosen:
        others = len(photos) - len(chosen)
        rest = f", without the photographs of its other splits ({others})" if others else ""
        return chosen, f"{name} is another labelled set: its {split} split is evaluated{rest}"
    if split != "test":
        named = in_short(sorted(splits)) or "none"
        raise DataError(f"{name} has no {split} split (splits: {named}); leave out --split")
    joined = f", the splits {' and '.join(sorted(splits))} together" if splits else ""
    return photos, f"{name} is another labelled set: all of it is evaluated{joined}"
