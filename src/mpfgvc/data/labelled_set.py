"""A labelled set that a run has never seen, with the labels of that run.

Class folders, with or without split folders above them; a table (CSV or Parquet); or an official layout.
Nothing is held out from it. If it names splits, the one that is asked for is taken, or everything if it has
no test split.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mpfgvc.data.catalog import OFFICIAL
from mpfgvc.data.names import look
from mpfgvc.data.place import existing_folder
from mpfgvc.data.readers.folders import official_layout, read_labelled_folders
from mpfgvc.data.readers.manifest import read_labelled_manifest
from mpfgvc.data.samples import LabelledPhoto, Sample, Split, in_short
from mpfgvc.errors import ConfigError, DataError

MOST_UNKNOWN = 5
"""Unknown classes that a refusal names."""


@dataclass(frozen=True, kw_only=True)
class LabelledSet:
    """The photographs of a labelled set; labels are indices into the classes of the run."""

    samples: tuple[Sample, ...]
    notes: tuple[str, ...]


def read_labelled_set(
    *,
    root: str | Path | None,
    manifest: str | Path | None,
    classes: Sequence[str],
    split: Split,
    nested: bool = False,
) -> LabelledSet:
    """All photographs of a folder or a table, or those of one split if they name splits.

    `nested`: class folders are inside the folders of their groups.
    Raises DataError for a class that is not one of `classes`, and for a split that the set does not have.
    """
    place = Path(root).expanduser() if root is not None else None
    photos, name = _read(place, Path(manifest) if manifest is not None else None, nested)
    if not photos:
        raise DataError(f"{name} holds no photographs; check the path")
    labels = _labels({photo.class_name for photo in photos}, classes, name)
    chosen, note = _of_split(photos, split, name)
    samples = tuple(Sample(path=photo.path, label=labels[photo.class_name], split=split) for photo in chosen)
    return LabelledSet(samples=samples, notes=(note,))


def _read(root: Path | None, manifest: Path | None, nested: bool) -> tuple[list[LabelledPhoto], str]:
    """The photographs of a set, and what to call it."""
    if manifest is not None:
        return read_labelled_manifest(manifest, root or manifest.parent), str(manifest)
    if root is None:
        raise ConfigError("a labelled set needs --data.root or --data.manifest")
    layout = official_layout(existing_folder(root))
    if layout is None:
        return read_labelled_folders(root, nested=nested), str(root)
    photos = OFFICIAL[layout[0]].read(root)
    return [
        LabelledPhoto(path=sample.path, class_name=photos.classes[sample.label], split=sample.split)
        for sample in photos.samples
    ], str(root)


def _labels(names: set[str], classes: Sequence[str], where: str) -> dict[str, int]:
    """The label of each class name. Names that look the same are the same class."""
    known = {look(name): label for label, name in enumerate(classes)}
    labels = {name: known.get(look(name)) for name in names}
    unknown = sorted(name for name, label in labels.items() if label is None)
    if unknown:
        shown = "; ".join(_with_near(name, classes) for name in unknown[:MOST_UNKNOWN])
        more = "; ..." if len(unknown) > MOST_UNKNOWN else ""
        count = f"classes of {where} that the run does not know: {len(unknown)} of {len(names)}"
        raise DataError(f"{count} ({shown}{more}); rename them as the run does, or remove them")
    return {name: label for name, label in labels.items() if label is not None}


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
