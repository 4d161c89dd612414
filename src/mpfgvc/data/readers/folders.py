"""One folder per class, with or without train, val and test folders above them.

A class is named as its folder is; classes are in natural order (2 before 10).
Photographs may be deeper inside a class folder. Whatever is left out is counted
in the notes.

Nested class folders are inside the folders of their groups, `Passeriformes/Corvidae/Blue Jay`: a class is a
folder without folders, and those above it are its taxonomy.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from mpfgvc.data.listing import Listing, list_folder, merged, natural_key, photographs_below, readable
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


@dataclass(frozen=True, kw_only=True)
class LabelledFolders:
    """The photographs of class folders, and lines about what was left out."""

    photos: list[LabelledPhoto]
    notes: tuple[str, ...]


def read_folders(
    root: Path, *, test_share: float, seed: int, nested: bool = False, skip_empty: bool = False
) -> PhotoSet:
    """Class folders. Where they name no split, a test set is held out, class by class.

    `skip_empty` leaves out class folders without photographs, for `empty_class_folders` to name. Raises
    DataError for an official layout, a folder without classes, and an empty or unreadable folder.
    """
    _refuse_official(root)
    parts = _split_folders(root)
    found = {split: _class_folders(folder, nested) for split, folder in parts.items()}
    if skip_empty:
        found = {split: _filled(folders) for split, folders in found.items()}
    names = sorted({name for folders in found.values() for name in folders}, key=natural_key)
    if len(names) == 1:
        inside = (root / names[0]).is_dir() and list_folder(root / names[0]).folders
        hint = f"perhaps data.root should be {root / names[0]}" if inside else "add a folder per class"
        raise DataError(f"{root} must hold at least 2 class folders, got 1 ({names[0]}); {hint}")
    labelled = _labelled(root, parts.values(), found.items())
    photos = photo_set(
        root.resolve().name, root, labelled.photos, test_share=test_share, seed=seed, notes=labelled.notes
    )
    return replace(photos, taxonomy=_taxonomy(parts, found, photos.classes)) if nested else photos


def read_labelled_folders(root: Path, *, nested: bool = False) -> LabelledFolders:
    """All photographs in class folders, and the splits that folders above these name, if any.

    Any splits and any number of classes will do: nothing is trained on these. Raises DataError for an
    official layout, a folder without classes, and an empty class folder.
    """
    _refuse_official(root)
    named = _named_splits(root)
    parts: dict[Split | None, Path] = dict(named.items()) if named else {None: root}
    found = {split: _class_folders(part, nested) for split, part in parts.items()}
    return _labelled(root, parts.values(), found.items())


def empty_class_folders(root: Path, *, nested: bool = False) -> tuple[str, ...]:
    """The class folders without photographs, which `read_folders` refuses."""
    empty: list[str] = []
    for part in _split_folders(root).values():
        folders = _class_folders(part, nested)
        filled = _filled(folders)
        empty += [str(folder) for name, folder in folders.items() if name not in filled]
    return tuple(empty)


def official_layout(root: Path) -> tuple[str, str] | None:
    """The name in the settings of the official layout that a folder has, and the file that gives it away."""
    with readable(root):
        for file, (_, dataset) in _OFFICIAL.items():
            if (root / file).exists():
                is_nabirds = dataset == "cub" and (root / "hierarchy.txt").exists()
                return ("nabirds" if is_nabirds else dataset), file
    return None


def _refuse_official(root: Path) -> None:
    layout = official_layout(root)
    if layout is not None:
        dataset, file = layout
        title = "NABirds" if dataset == "nabirds" else _OFFICIAL[file][0]
        raise DataError(f"{root} holds {file}, so this looks like {title}: set data.dataset={dataset}")


def _labelled(
    root: Path, parts: Iterable[Path], found: Iterable[tuple[Split | None, Mapping[str, Path]]]
) -> LabelledFolders:
    """The photographs in the class folders of each split, and notes on what else is there."""
    photos: list[LabelledPhoto] = []
    listings: list[Listing] = []
    for split, folders in found:
        for name, folder in folders.items():
            listing = photographs_below(folder)
            if not listing.photographs:
                raise DataError(f"the class folder {folder} holds no photographs; add some or remove the folder")
            photos += [LabelledPhoto(path, name, split) for path in listing.photographs]
            listings.append(listing)
    beside: list[Path] = []
    for folder in dict.fromkeys((root, *parts)):  # their photographs have a note of their own
        above = list_folder(folder)
        beside += above.photographs
        listings.append(replace(above, folders=(), photographs=(), others=()))
    what = f"ignored {len(beside)} photographs beside the class folders: {in_short([*map(str, beside)])}"
    notes = [what] if beside else []
    notes += [*_unnamed_notes(root, set(parts)), *merged(listings).ignored()]
    return LabelledFolders(photos=photos, notes=tuple(notes))


def _unnamed_notes(root: Path, known: set[Path]) -> Iterator[str]:
    """Notes on photographs in folders that stand beside those of the splits."""
    for folder in list_folder(root).folders if root not in known else ():
        inside = photographs_below(folder).photographs if folder not in known else ()
        if inside:
            yield f"ignored {len(inside)} photographs in {folder}, which is not named like a split"


def _split_folders(root: Path) -> dict[Split, Path]:
    """The folder of each split; the root itself as `train` if no split folders are there."""
    parts = _named_splits(root)
    if parts and "train" not in parts:
        raise DataError(f"{root} has {in_short([f.name for f in parts.values()])} but no train folder; add one")
    return parts or {"train": root}


def _named_splits(root: Path) -> dict[Split, Path]:
    """The folders that are named after splits and hold folders."""
    parts: dict[Split, Path] = {}
    for folder in list_folder(root).folders:
        split = SPLIT_NAMES.get(folder.name.casefold())
        if split is None or not list_folder(folder).folders:
            continue
        if split in parts:
            raise DataError(f"{root} has two folders for {split}: {parts[split].name} and {folder.name}; merge them")
        parts[split] = folder
    return parts


def _filled(folders: Mapping[str, Path]) -> dict[str, Path]:
    """Those of some class folders that hold photographs."""
    return {name: folder for name, folder in folders.items() if photographs_below(folder).photographs}


def _class_folders(folder: Path, nested: bool) -> dict[str, Path]:
    classes = list_folder(folder).folders
    if not classes:
        raise DataError(f"{folder} must hold one folder of photographs per class, got none; check data.root")
    return _leaves(folder) if nested else {entry.name: entry for entry in classes}


def _leaves(folder: Path) -> dict[str, Path]:
    """The folders without folders below `folder`, by name."""
    leaves: dict[str, Path] = {}
    for entry in list_folder(folder).folders:
        inside = list_folder(entry)
        if inside.folders and inside.photographs:
            first = inside.photographs[0].name
            raise DataError(f"{entry} holds class folders and photographs ({first}); move these into a class")
        for name, leaf in (_leaves(entry) if inside.folders else {entry.name: entry}).items():
            if name in leaves:
                raise DataError(f"{leaves[name]} and {leaf} have the same name; rename one of the classes")
            leaves[name] = leaf
    return leaves


def _taxonomy(
    parts: Mapping[Split, Path], found: Mapping[Split, Mapping[str, Path]], names: tuple[str, ...]
) -> Taxonomy:
    """The tree of the folders above the classes, which must be the same in each split."""
    ways: dict[str, tuple[str, ...]] = {}
    for split, folders in found.items():
        for name, folder in folders.items():
            way = folder.relative_to(parts[split]).parts
            if ways.setdefault(name, way) != way:
                both = " and below ".join("/".join(each[:-1]) for each in (way, ways[name]))
                raise DataError(f"the class folder {name} is below {both}; move one of them")
    taxonomy = taxonomy_of_folders([ways[name] for name in names])
    if taxonomy is None:
        raise DataError("data.taxonomy is folders, but no folder is above the class folders; leave it out")
    return taxonomy
