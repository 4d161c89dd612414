"""One folder per class, with or without train, val and test folders above them.

A class is named as its folder is; classes are in natural order (2 before 10).
Photographs may be deeper inside a class folder. Whatever is left out is counted
in the notes.

Nested class folders are inside the folders of their groups, `Passeriformes/Corvidae/Blue Jay`: a class is a
folder without folders, and those above it are its taxonomy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from mpfgvc.data.listing import Listing, list_folder, merged, natural_key, photographs_below, readable
from mpfgvc.data.samples import (
    SPLIT_NAMES,
    LabelledPhoto,
    PhotoSet,
    Sample,
    Split,
    in_short,
)
from mpfgvc.data.split import with_test
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
    _refuse_one_class(root, names)
    labels = {name: label for label, name in enumerate(names)}
    samples: list[Sample] = []
    listings: list[Listing] = []
    for split, folders in found.items():
        for name, folder in folders.items():
            listing = _photographs(folder)
            samples += [Sample(path=path, label=labels[name], split=split) for path in listing.photographs]
            listings.append(listing)
    for folder in dict.fromkeys((root, *parts.values())):  # their photographs have a note of their own
        above = list_folder(folder)
        listings.append(Listing(hidden=above.hidden, dead_links=above.dead_links))
    divided, notes = with_test(samples, names, test_share, seed)
    taxonomy = _taxonomy(parts, found, names) if nested else None
    return PhotoSet(
        name=root.resolve().name,
        classes=tuple(names),
        samples=divided,
        notes=(*_beside_notes(root, parts), *merged(listings).left_out(), *notes),
        taxonomy=taxonomy,
    )


def read_labelled_folders(root: Path, *, nested: bool = False) -> list[LabelledPhoto]:
    """All photographs in class folders, and the splits that folders above these name, if any.

    Any splits and any number of classes will do: nothing is trained on these. Raises DataError for an
    official layout, a folder without classes, and an empty class folder.
    """
    _refuse_official(root)
    parts: list[tuple[Split | None, Path]] = [*_named_splits(root).items()] or [(None, root)]
    return [
        LabelledPhoto(path=path, class_name=name, split=split)
        for split, part in parts
        for name, folder in _class_folders(part, nested).items()
        for path in _photographs(folder).photographs
    ]


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


def _split_folders(root: Path) -> dict[Split, Path]:
    """The folder of each split; the root itself as `train` if no split folders are there."""
    parts = _named_splits(root)
    if parts and "train" not in parts:
        raise DataError(
            f"{root} has {in_short([f.name for f in parts.values()])} but no train folder; add one"
        )
    return parts or {"train": root}


def _named_splits(root: Path) -> dict[Split, Path]:
    """The folders that are named after splits and hold folders."""
    parts: dict[Split, Path] = {}
    for folder in list_folder(root).folders:
        split = SPLIT_NAMES.get(folder.name.casefold())
        if split is None or not list_folder(folder).folders:
            continue
        if split in parts:
            raise DataError(
                f"{root} has two folders for {split}: {parts[split].name} and {folder.name}; merge them"
            )
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
    parts: Mapping[Split, Path], found: Mapping[Split, Mapping[str, Path]], names: Sequence[str]
) -> Taxonomy:
    """The tree of the folders above the classes, which must be the same in each split."""
    ways: dict[str, tuple[str, ...]] = {}
    for split, folders in found.items():
        for name, folder in folders.items():
            way = folder.relative_to(parts[split]).parts
            if ways.setdefault(name, way) != way:
                places = " and below ".join("/".join(each[:-1]) for each in (way, ways[name]))
                raise DataError(f"the class folder {name} is below {places}; move one of them")
    taxonomy = taxonomy_of_folders([ways[name] for name in names])
    if taxonomy is None:
        raise DataError("data.taxonomy is folders, but no folder is above the class folders; leave it out")
    return taxonomy


def _refuse_one_class(root: Path, names: Sequence[str]) -> None:
    if len(names) > 1:
        return
    inside = list_folder(root / names[0]).folders if (root / names[0]).is_dir() else ()
    hint = f"perhaps data.root should be {root / names[0]}" if inside else "add a folder per class"
    raise DataError(f"{root} must hold at least 2 class folders, got 1 ({names[0]}); {hint}")


def _photographs(folder: Path) -> Listing:
    listing = photographs_below(folder)
    if not listing.photographs:
        raise DataError(f"the class folder {folder} holds no photographs; add some or remove the folder")
    return listing


def _beside_notes(root: Path, parts: dict[Split, Path]) -> list[str]:
    """Notes on photographs that are in no class folder."""
    folders = dict.fromkeys((root, *parts.values()))
    beside = [path for folder in folders for path in list_folder(folder).photographs]
    notes = _note(beside, "photographs beside the class folders")
    if root in parts.values():
        return notes
    for folder in list_folder(root).folders:
        inside = photographs_below(folder).photographs if folder not in parts.values() else ()
        if inside:
            notes.append(f"ignored {len(inside)} photographs in {folder}, which is not named like a split")
    return notes


def _note(paths: Sequence[Path], what: str) -> list[str]:
    return [f"ignored {len(paths)} {what}: {in_short([str(path) for path in paths])}"] if paths else []
