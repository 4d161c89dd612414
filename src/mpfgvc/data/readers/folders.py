"""One folder per class, with or without train, val and test folders above them.

A class is named as its folder is; classes are in natural order (2 before 10). Photographs may be deeper inside
a class folder. Whatever is left out is counted in the notes.

Nested class folders are inside the folders of their groups, `Passeriformes/Corvidae/Blue Jay`: a class is a
folder without folders, and those above it are its taxonomy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from mpfgvc.data.listing import Listing, list_folder, merged, natural_key, photographs_below, readable
from mpfgvc.data.names import composed
from mpfgvc.data.samples import SPLIT_NAMES, LabelledPhoto, PhotoSet, Split, in_short
from mpfgvc.data.split import photo_set
from mpfgvc.data.taxonomy import Taxonomy, taxonomy_of_folders
from mpfgvc.errors import DataError

_OFFICIAL = {
    "image_class_labels.txt": ("CUB-200-2011", "cub"),
    "train_list.mat": ("Stanford Dogs", "dogs"),
    "lists/train_list.mat": ("Stanford Dogs", "dogs"),
    "meta/classes.txt": ("Food-101", "food101"),
    "setid.mat": ("Oxford Flowers-102", "flowers102"),
    "flowers-102/setid.mat": ("Oxford Flowers-102", "flowers102"),
}


class _ClassFolder(NamedTuple):
    """A class in a split, None where none is named; `way` are the names of the folders that lead to it."""

    split: Split | None
    path: Path
    way: tuple[str, ...]
    below: Listing

    @property
    def name(self) -> str:
        return self.way[-1]


def read_folders(
    root: Path, *, test_share: float, seed: int, nested: bool = False, skip_empty: bool = False
) -> PhotoSet:
    """Class folders. Where they name no split, a test set is held out, class by class.

    `skip_empty` leaves out class folders without photographs, for `empty_class_folders` to name. Raises
    DataError for an official layout, a folder without classes, and an empty or unreadable folder.
    """
    parts = _parts(root)
    if parts and None not in parts and "train" not in parts:
        names = in_short([folder.name for folder in parts.values()])
        raise DataError(f"{root} has {names} but no train folder; add one")
    found = _class_folders(parts, nested, skip_empty=skip_empty)
    classes = sorted({folder.name for folder in found}, key=natural_key)
    if len(classes) == 1:
        inside = (root / classes[0]).is_dir() and list_folder(root / classes[0]).folders
        hint = f"perhaps data.root should be {root / classes[0]}" if inside else "add a folder per class"
        raise DataError(f"{root} must hold at least 2 class folders, got 1 ({classes[0]}); {hint}")
    photos, notes = _labelled(root, parts, found)
    result = photo_set(root.resolve().name, root, photos, test_share=test_share, seed=seed, notes=notes)
    return replace(result, taxonomy=_taxonomy(found, result.classes)) if nested else result


def read_labelled_folders(root: Path, *, nested: bool = False) -> tuple[list[LabelledPhoto], list[str]]:
    """All photographs in class folders, with the splits that are named, and notes on what was left out.

    Any splits and any number of classes will do: nothing is trained on these. Raises DataError for an
    official layout, a folder without classes, and an empty class folder.
    """
    parts = _parts(root)
    return _labelled(root, parts, _class_folders(parts, nested))


def empty_class_folders(root: Path, *, nested: bool = False) -> tuple[str, ...]:
    """The class folders without photographs, which `read_folders` refuses."""
    found = [folder for split, part in _parts(root).items() for folder in _of_part(split, part, nested)]
    return tuple(str(folder.path) for folder in found if not folder.below.photographs)


def official_layout(root: Path) -> tuple[str, str] | None:
    """The name in the settings of the official layout that a folder has, and the file that gives it away."""
    with readable(root):
        for file, (_, dataset) in _OFFICIAL.items():
            if (root / file).exists():
                is_nabirds = dataset == "cub" and (root / "hierarchy.txt").exists()
                return ("nabirds" if is_nabirds else dataset), file
    return None


def _parts(root: Path) -> dict[Split | None, Path]:
    """The folders that are named after splits and hold folders; else the root itself, of no split."""
    layout = official_layout(root)
    if layout is not None:
        dataset, file = layout
        title = "NABirds" if dataset == "nabirds" else _OFFICIAL[file][0]
        raise DataError(f"{root} holds {file}, so this looks like {title}: set data.dataset={dataset}")
    parts: dict[Split | None, Path] = {}
    for folder in list_folder(root).folders:
        split = SPLIT_NAMES.get(folder.name.casefold())
        if split is None or not list_folder(folder).folders:
            continue
        if split in parts:
            raise DataError(f"{root} has two folders for {split}: {parts[split].name} and {folder.name}; merge them")
        parts[split] = folder
    return parts or {None: root}


def _class_folders(parts: Mapping[Split | None, Path], nested: bool, *, skip_empty: bool = False) -> list[_ClassFolder]:
    """The class folders of all splits. Raises DataError for an empty one, unless these are left out."""
    found = [folder for split, part in parts.items() for folder in _of_part(split, part, nested)]
    empty = [folder.path for folder in found if not folder.below.photographs]
    if empty and not skip_empty:
        raise DataError(f"the class folder {empty[0]} holds no photographs; add some or remove the folder")
    return [folder for folder in found if folder.below.photographs]


def _of_part(split: Split | None, part: Path, nested: bool) -> Iterator[_ClassFolder]:
    waiting: list[tuple[Path, tuple[str, ...]]] = [
        (folder, (folder.name,)) for folder in reversed(list_folder(part).folders)
    ]
    if not waiting:
        raise DataError(f"{part} must hold one folder of photographs per class, got none; check data.root")
    first: dict[str, Path] = {}
    while waiting:
        folder, way = waiting.pop()
        inside = list_folder(folder)
        if not nested or not inside.folders:
            if folder.name in first:
                raise DataError(f"{first[folder.name]} and {folder} have the same name; rename one of the classes")
            first[folder.name] = folder
            yield _ClassFolder(split, folder, way, photographs_below(folder))
            continue
        if inside.photographs:
            name = inside.photographs[0].name
            raise DataError(f"{folder} holds class folders and photographs ({name}); move these into a class")
        waiting += [(below, (*way, below.name)) for below in reversed(inside.folders)]


def _labelled(
    root: Path, parts: Mapping[Split | None, Path], found: Sequence[_ClassFolder]
) -> tuple[list[LabelledPhoto], list[str]]:
    """The photographs in class folders, and notes on what else is there."""
    photos = [LabelledPhoto(path, folder.name, folder.split) for folder in found for path in folder.below.photographs]
    above = [list_folder(folder) for folder in dict.fromkeys((root, *parts.values()))]
    beside = [path for listing in above for path in listing.photographs]
    what = f"ignored {len(beside)} photographs beside the class folders: {in_short(beside)}"
    notes = [what] if beside else []
    for folder in above[0].folders if None not in parts else ():
        inside = photographs_below(folder).photographs if folder not in parts.values() else ()
        if inside:
            notes.append(f"ignored {len(inside)} photographs in {folder}, which is not named like a split")
    left_out = [replace(listing, folders=(), photographs=(), others=()) for listing in above]
    return photos, notes + merged([*(folder.below for folder in found), *left_out]).ignored()


def _taxonomy(found: Sequence[_ClassFolder], classes: Sequence[str]) -> Taxonomy:
    """The tree of the folders above the classes, which must be the same in each split."""
    ways: dict[str, tuple[str, ...]] = {}
    for folder in found:
        way = tuple(map(composed, folder.way))
        if ways.setdefault(way[-1], way) != way:
            both = " and below ".join("/".join(other[:-1]) for other in (way, ways[way[-1]]))
            raise DataError(f"the class folder {folder.name} is below {both}; move one of them")
    taxonomy = taxonomy_of_folders([ways[name] for name in classes])
    if taxonomy is None:
        raise DataError("data.taxonomy is folders, but no folder is above the class folders; leave it out")
    return taxonomy
