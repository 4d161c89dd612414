"""The official layouts of CUB-200-2011, NABirds and Food-101 (two more: stanford_dogs.py, flowers102.py).

Each reader takes the folder of the unpacked dataset and returns its samples in
the order of its index, with the official split. A class counts if a photograph
of it is listed, so a subset of a dataset is read as it is. Labels are dense and
follow the order of the official class ids. `check_files=False` reads only the index,
without looking for the images.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

from mpfgvc.data.names import bird_name, dish_name, nabird_name
from mpfgvc.data.readers.index_files import (
    decode,
    read_lines,
    read_names,
    read_numbers,
    read_pairs,
    refuse_missing,
    refuse_repeated,
    refuse_unmatched,
)
from mpfgvc.data.samples import PhotoSet, Samples, Split
from mpfgvc.errors import DataError

_FOOD_SPLITS: tuple[Split, ...] = ("train", "test")


def read_cub(root: Path, *, check_files: bool = True) -> PhotoSet:
    """CUB-200-2011. `001.Black_footed_Albatross` is named `Black footed Albatross`."""
    return _read_numbered(root, "CUB-200-2011", bird_name, check_files)


def read_nabirds(root: Path, *, check_files: bool = True) -> PhotoSet:
    """NABirds. Its class ids are nodes of a tree; only the leaves, 555 in all, have photographs.

    Names keep sex and plumage, `Common Eider (Adult male)`: these are classes of their own.
    """
    return _read_numbered(root, "NABirds", nabird_name, check_files)


def read_food101(root: Path, *, check_files: bool = True) -> PhotoSet:
    """Food-101. `apple_pie` is named `apple pie`. The lists may be .txt or .json."""
    meta = root / "meta"
    folders = [line for _, line in read_lines(meta / "classes.txt")]
    refuse_repeated(meta / "classes.txt", folders)
    splits = _read_food_lists(meta, frozenset(folders))
    used = {entry.split("/")[0] for entry in splits}
    folders = [folder for folder in folders if folder in used]
    labels = {folder: label for label, folder in enumerate(folders)}
    samples = Samples.of(
        root,
        [(f"images/{entry}.jpg", labels[entry.split("/")[0]], split) for entry, split in splits.items()],
    )
    if check_files:
        refuse_missing(meta, [sample.path for sample in samples])
    names = tuple(dish_name(folder) for folder in folders)
    return PhotoSet(name="Food-101", classes=names, samples=samples)


def _read_numbered(root: Path, name: str, readable: Callable[[str], str], check_files: bool) -> PhotoSet:
    """The layout that CUB and NABirds share: image ids joined over four lists."""
    pictures = read_pairs(root / "images.txt")
    refuse_repeated(root / "images.txt", pictures.values())
    labels, names = _read_labels(root, list(pictures))
    training = _read_training(root, list(pictures))
    samples = Samples.of(
        root,
        [
            (f"images/{picture}", labels[image_id], "train" if training[image_id] else "test")
            for image_id, picture in pictures.items()
        ],
    )
    if check_files:
        refuse_missing(root / "images.txt", [sample.path for sample in samples])
    return PhotoSet(name=name, classes=tuple(readable(name) for name in names), samples=samples)


def _read_labels(root: Path, image_ids: list[str]) -> tuple[dict[str, int], list[str]]:
    """The dense label of each image, and the official names of the classes in use, in that order."""
    path = root / "image_class_labels.txt"
    names = read_names(root / "classes.txt")
    class_ids = read_numbers(path)
    refuse_unmatched(path, class_ids, image_ids, "label")
    for image_id in image_ids:
        if class_ids[image_id] not in names:
            raise DataError(
                f"{path} gives image {image_id} the class {class_ids[image_id]}, which classes.txt lacks; "
                "take all index files from one release"
            )
    used = sorted({class_ids[image_id] for image_id in image_ids})
    dense = {class_id: label for label, class_id in enumerate(used)}
    labels = {image_id: dense[class_ids[image_id]] for image_id in image_ids}
    return labels, [names[class_id] for class_id in used]


def _read_training(root: Path, image_ids: list[str]) -> dict[str, int]:
    path = root / "train_test_split.txt"
    training = read_numbers(path)
    refuse_unmatched(path, training, image_ids, "split")
    for image_id, value in training.items():
        if value not in (0, 1):
            raise DataError(
                f"{path} must give 1 (train) or 0 (test), got {value} for image {image_id}; restore it"
            )
    return training


def _read_food_lists(meta: Path, folders: frozenset[str]) -> dict[str, Split]:
    """The split of each entry CLASS/ID."""
    splits: dict[str, Split] = {}
    for split in _FOOD_SPLITS:
        for where, entry in _food_entries(_food_index(meta, split)):
            folder, _, image_id = entry.partition("/")
            if folder not in folders or not image_id or "/" in image_id:
                raise DataError(f"{where} must be CLASS/ID, the class in classes.txt, got {entry!r:.60}")
            if entry in splits:
                raise DataError(f"{where} repeats {entry} of {splits[entry]}; remove one of the two")
            splits[entry] = split
    return splits


def _food_index(meta: Path, split: str) -> Path:
    text, structured = meta / f"{split}.txt", meta / f"{split}.json"
    return structured if structured.exists() and not text.exists() else text


def _food_entries(index: Path) -> Iterator[tuple[str, str]]:
    """Each entry `class/id` of a list, with words that say where it is."""
    if index.suffix == ".txt":
        yield from ((f"{index} line {number}", line) for number, line in read_lines(index))
        return
    for number, entry in enumerate(_json_entries(index), start=1):
        yield f"{index}, entry {number},", entry


def _json_entries(index: Path) -> list[str]:
    """The entries of all classes of a JSON list; each must be in the list of its own class."""
    wrong = DataError(f"{index} must map each class to a list of CLASS/ID; unpack the dataset again")
    try:
        groups = json.loads(decode(index.read_bytes(), index))
    except (OSError, ValueError):
        raise wrong from None
    if not isinstance(groups, dict) or not all(isinstance(group, list) for group in groups.values()):
        raise wrong
    for folder, group in groups.items():
        for entry in group:
            if not isinstance(entry, str) or not entry.startswith(f"{folder}/"):
                raise DataError(f"{index}: the list of {folder} must hold {folder}/ID, got {entry!r:.60}")
    return [entry for group in groups.values() for entry in group]
