"""One folder per class, with or without train, val and test folders above them.

A class is named as its folder is; classes are in natural order (2 before 10).
Photographs may lie deeper inside a class folder. What cannot be a photograph
is left out, and a note says so.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from mpfgvc.data.images import IMAGE_SUFFIXES
from mpfgvc.data.samples import SPLIT_NAMES, PhotoSet, Sample, Split, in_short, natural_key
from mpfgvc.data.split import with_test
from mpfgvc.errors import DataError

_OFFICIAL = {
    "image_class_labels.txt": ("CUB-200-2011", "cub"),
    "train_list.mat": ("Stanford Dogs", "dogs"),
    "lists/train_list.mat": ("Stanford Dogs", "dogs"),
    "meta/classes.txt": ("Food-101", "food101"),
}


def read_folders(root: Path, *, test_share: float, seed: int) -> PhotoSet:
    """Class folders. Where they name no split, a test set is held out, class by class.

    Raises DataError for an official layout, a folder without classes, and an empty class folder.
    """
    _refuse_official(root)
    parts = _split_folders(root)
    found = {split: _class_folders(folder) for split, folder in parts.items()}
    names = sorted({name for folders in found.values() for name in folders}, key=natural_key)
    _refuse_one_class(root, names)
    labels = {name: label for label, name in enumerate(names)}
    samples: list[Sample] = []
    ignored: list[Path] = []
    for split, folders in found.items():
        for name, folder in folders.items():
            photographs, others = _photographs(folder)
            samples += [Sample(path=path, label=labels[name], split=split) for path in photographs]
            ignored += others
    divided, notes = with_test(samples, names, test_share, seed)
    return PhotoSet(
        name=root.resolve().name,
        classes=tuple(names),
        samples=divided,
        notes=(*_ignored_notes(ignored), *notes),
    )


def _refuse_official(root: Path) -> None:
    for file, (title, dataset) in _OFFICIAL.items():
        if (root / file).exists():
            if dataset == "cub" and (root / "hierarchy.txt").exists():
                title, dataset = "NABirds", "nabirds"
            raise DataError(f"{root} holds {file}, so this looks like {title}: set data.dataset={dataset}")


def _split_folders(root: Path) -> dict[Split, Path]:
    """The folder of each split; the root itself as `train` if no split folders are there."""
    parts: dict[Split, Path] = {}
    for folder in _visible_folders(root):
        split = SPLIT_NAMES.get(folder.name.casefold())
        if split is None or not _visible_folders(folder):
            continue
        if split in parts:
            raise DataError(
                f"{root} has two folders for {split}: {parts[split].name} and {folder.name}; merge them"
            )
        parts[split] = folder
    if parts and "train" not in parts:
        raise DataError(
            f"{root} has {in_short([f.name for f in parts.values()])} but no train folder; add one"
        )
    return parts or {"train": root}


def _class_folders(folder: Path) -> dict[str, Path]:
    classes = {entry.name: entry for entry in _visible_folders(folder)}
    if not classes:
        raise DataError(f"{folder} must hold one folder of photographs per class, got none; check data.root")
    return classes


def _refuse_one_class(root: Path, names: Sequence[str]) -> None:
    if len(names) > 1:
        return
    inside = [folder.name for folder in _visible_folders(root / names[0])]
    hint = f"perhaps data.root should be {root / names[0]}" if inside else "add a folder per class"
    raise DataError(f"{root} must hold at least 2 class folders, got 1 ({names[0]}); {hint}")


def _visible_folders(folder: Path) -> list[Path]:
    entries = (entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    return sorted(entries, key=lambda entry: natural_key(entry.name))


def _photographs(folder: Path) -> tuple[list[Path], list[Path]]:
    """The photographs of a class in natural order, and the files that are none."""
    files = [Path(start, name) for start, _, names in os.walk(folder) for name in names]
    files.sort(key=lambda path: natural_key(path.as_posix()))
    hidden = {path for path in files if any(part.startswith(".") for part in path.relative_to(folder).parts)}
    photographs = [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES and path not in hidden]
    if not photographs:
        raise DataError(f"the class folder {folder} holds no photographs; add some or remove the folder")
    kept = set(photographs)
    return photographs, [path for path in files if path not in kept]


def _ignored_notes(ignored: Sequence[Path]) -> tuple[str, ...]:
    if not ignored:
        return ()
    return (
        f"ignored {len(ignored)} files that are no photographs: {in_short([str(path) for path in ignored])}",
    )
