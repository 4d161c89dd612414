"""The official layouts of CUB-200-2011, NABirds, Food-101, Stanford Dogs and Oxford Flowers-102.

Each reader takes the folder of the unpacked dataset and returns its photographs in
the order of its index, with the official split. A class counts if a photograph
of it is listed, so a subset of a dataset is read as it is. Labels are dense and
follow the order of the official class ids. `check_files=False` reads only the index,
without looking for the images.

The lists of Dogs and Flowers are MATLAB 5.0 files and need scipy, the extra `matlab`. What MATLAB writes is
odd in two ways: a list is a matrix with one row or one column, and whole numbers may be stored as floats.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpfgvc.data.listing import list_folder
from mpfgvc.data.names import bird_name, breed_name, dish_name, nabird_name
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
from mpfgvc.data.samples import PhotoSet, Samples, Split, counted, in_short, relative_path
from mpfgvc.errors import DataError

_DOGS, _DOGS_LAYOUT = "Stanford Dogs", "train_list.mat, test_list.mat and Images/"
_FLOWERS, _FLOWERS_LAYOUT = "Oxford Flowers-102", "imagelabels.mat, setid.mat and jpg/"
_FLOWER_SPLITS: dict[str, Split] = {"trnid": "train", "valid": "validation", "tstid": "test"}
"""The split of each variable of setid.mat."""


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
        root, [(f"images/{entry}.jpg", labels[entry.split("/")[0]], split) for entry, split in splits.items()]
    )
    if check_files:
        refuse_missing(meta, [sample.path for sample in samples])
    names = tuple(dish_name(folder) for folder in folders)
    return PhotoSet(name="Food-101", classes=names, samples=samples)


def read_dogs(root: Path, *, check_files: bool = True) -> PhotoSet:
    """Stanford Dogs. `n02085620-Chihuahua` is named `Chihuahua`. The lists may be in `lists/`."""
    lists = root / "lists" if (root / "lists" / "train_list.mat").exists() else root
    indexes: dict[Split, Path] = {"train": lists / "train_list.mat", "test": lists / "test_list.mat"}
    entries = [(file, number, split) for split, index in indexes.items() for file, number in _read_dog_list(index)]
    refuse_repeated(lists, (file for file, _, _ in entries))
    folders = _dog_folders(lists, [(file, number) for file, number, _ in entries])
    dense = {number: label for label, number in enumerate(sorted(folders))}
    samples = Samples.of(root, [(f"Images/{file}", dense[number], split) for file, number, split in entries])
    if check_files:
        refuse_missing(lists, [sample.path for sample in samples])
    names = tuple(breed_name(folders[number]) for number in sorted(folders))
    return PhotoSet(name=_DOGS, classes=names, samples=samples)


def read_flowers102(root: Path, *, check_files: bool = True) -> PhotoSet:
    """Oxford Flowers-102, validation included, in the order of the numbers of its pictures.

    The authors publish no class names. They come from `cat_to_name.json` where it lies beside the lists
    (`{"21": "fire lily", ...}`), else from torchvision, whose list is the same. The files may be in the one
    folder below that has them, as torchvision's `flowers-102/` has.
    """
    home = _flower_home(root)
    numbers = _flower_numbers(home)
    splits = _flower_splits(home, len(numbers))
    notes = [*(_check_flowers(home, len(numbers)) if check_files else ()), *_unused(numbers, splits)]
    used = sorted({numbers[picture - 1] for picture in splits})
    dense = {number: label for label, number in enumerate(used)}
    samples = Samples.of(
        root,
        [
            (relative_path(_picture(home, picture), root), dense[numbers[picture - 1]], splits[picture])
            for picture in sorted(splits)
        ],
    )
    return PhotoSet(name=_FLOWERS, classes=_flower_names(home, used), samples=samples, notes=tuple(notes))


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
            raise DataError(f"{path} must give 1 (train) or 0 (test), got {value} for image {image_id}; restore it")
    return training


def _read_food_lists(meta: Path, folders: frozenset[str]) -> dict[str, Split]:
    """The split of each entry CLASS/ID."""
    splits: dict[str, Split] = {}
    for split, index in _food_indexes(meta).items():
        for where, entry in _food_entries(index):
            folder, _, image_id = entry.partition("/")
            if folder not in folders or not image_id or "/" in image_id:
                raise DataError(f"{where} must be CLASS/ID, the class in classes.txt, got {entry!r:.60}")
            if entry in splits:
                raise DataError(f"{where} repeats {entry} of {splits[entry]}; remove one of the two")
            splits[entry] = split
    return splits


def _food_indexes(meta: Path) -> dict[Split, Path]:
    found: dict[Split, Path] = {"train": meta / "train.txt", "test": meta / "test.txt"}
    for split, text in found.items():
        structured = text.with_suffix(".json")
        found[split] = structured if structured.exists() and not text.exists() else text
    return found


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


def _read_dog_list(index: Path) -> list[tuple[str, int]]:
    """Each file of a list with its class number from 1."""
    cells, labels = _read_variables(index, ("file_list", "labels"), dataset=_DOGS, layout=_DOGS_LAYOUT)
    files = [_cell_text(cell) for cell in cells]
    numbers = _whole_numbers(labels, index, "label files with")
    if len(files) != len(numbers):
        raise DataError(f"{index} must label every file, got {len(files)} files and {len(numbers)} labels")
    for file, number in zip(files, numbers, strict=True):
        if number < 1 or "/" not in file or file != file.strip():
            raise DataError(f"{index} must give CLASS/FILE and a label from 1, got {file!r:.60} and {number}")
    return list(zip(files, numbers, strict=True))


def _dog_folders(lists: Path, entries: list[tuple[str, int]]) -> dict[int, str]:
    """The class folder of each number; refuses a number with two folders, or a folder with two numbers."""
    folders: dict[int, str] = {}
    numbers: dict[str, int] = {}
    for file, number in entries:
        folder = file.split("/")[0]
        if folders.setdefault(number, folder) != folder or numbers.setdefault(folder, number) != number:
            raise DataError(
                f"{lists}: the lists give {file} the label {number}, against another entry; download the lists again"
            )
    return folders


def _flower_home(root: Path) -> Path:
    """The folder with the lists: the root itself, or the only folder in it that has one of them."""
    if _has_flower_lists(root):
        return root
    below = [folder for folder in list_folder(root).folders if _has_flower_lists(folder)]
    if len(below) > 1:
        names = in_short([folder.name for folder in below])
        raise DataError(f"{root} holds {_FLOWERS} {len(below)} times ({names}); set data.root to one of them")
    return below[0] if below else root


def _has_flower_lists(folder: Path) -> bool:
    return (folder / "setid.mat").exists() or (folder / "imagelabels.mat").exists()


def _picture(home: Path, number: int) -> Path:
    return home / "jpg" / f"image_{number:05d}.jpg"


def _flower_numbers(home: Path) -> list[int]:
    """The class number, from 1, of each picture."""
    index = home / "imagelabels.mat"
    (labels,) = _read_variables(index, ("labels",), dataset=_FLOWERS, layout=_FLOWERS_LAYOUT)
    numbers = _whole_numbers(labels, index, "label pictures with")
    wrong = next((number for number in numbers if number < 1), None)
    if wrong is not None:
        raise DataError(f"{index} must give labels from 1, got {wrong}; download the lists again")
    return numbers


def _flower_splits(home: Path, pictures: int) -> dict[int, Split]:
    """The split of each picture number, from 1, that is in one."""
    index = home / "setid.mat"
    variables = _read_variables(index, tuple(_FLOWER_SPLITS), dataset=_FLOWERS, layout=_FLOWERS_LAYOUT)
    named: dict[int, list[str]] = defaultdict(list)
    for name, variable in zip(_FLOWER_SPLITS, variables, strict=True):
        for number in _whole_numbers(variable, index, "list pictures by"):
            named[number].append(name)
    for number, names in named.items():
        if not 1 <= number <= pictures:
            raise DataError(
                f"{index} must list pictures from 1 to {pictures}, as many as imagelabels.mat labels, "
                f"got {number} in {names[0]}; take both files from one release"
            )
    _refuse_in_two_splits(index, named)
    return {number: _FLOWER_SPLITS[names[0]] for number, names in named.items()}


def _refuse_in_two_splits(index: Path, named: dict[int, list[str]]) -> None:
    """Refuse a picture in two splits, or twice in one: it would be learned from and tested on."""
    repeated = [f"{number} in {' and '.join(names)}" for number, names in named.items() if len(names) > 1]
    if repeated:
        raise DataError(
            f"{index} must put a picture into one split, got {len(repeated)} pictures twice "
            f"({in_short(repeated)}); download the lists again"
        )


def _unused(numbers: list[int], splits: dict[int, Split]) -> list[str]:
    left_out = [str(number) for number in range(1, len(numbers) + 1) if number not in splits]
    return [counted("pictures in no split, left out", left_out, len(numbers))] if left_out else []


def _check_flowers(home: Path, labels: int) -> list[str]:
    """Refuse labels and pictures that do not belong together; a note on photographs without a number."""
    index, folder = home / "imagelabels.mat", home / "jpg"
    wanted = [_picture(home, number) for number in range(1, labels + 1)]
    found = list_folder(folder).photographs if folder.is_dir() else ()
    numbered = [path for path in found if re.fullmatch(r"image_[0-9]{5}\.jpg", path.name)]
    beyond = sorted({path.name for path in numbered} - {path.name for path in wanted})
    if beyond:
        raise DataError(
            f"{index} must label every picture of jpg/, got {labels} labels and {len(numbered)} pictures, "
            f"first without a label {beyond[0]}; take both from one release"
        )
    refuse_missing(index, wanted)
    others = [path.name for path in found if path not in numbered]
    return [counted("photographs in jpg/ that the lists do not name, left out", others)] if others else []


def _flower_names(home: Path, numbers: list[int]) -> tuple[str, ...]:
    """The names of the classes in use. Raises DataError for one without a name."""
    file = home / "cat_to_name.json"
    names, source = (_read_flower_names(file), str(file)) if file.exists() else (_torchvision_names(), "torchvision")
    unnamed = [str(number) for number in numbers if number not in names]
    if unnamed:
        raise DataError(
            f"{source} names no class {in_short(unnamed)} of {home / 'imagelabels.mat'}; "
            'complete cat_to_name.json: {"1": "pink primrose", ...}'
        )
    return tuple(names[number] for number in numbers)


def _read_flower_names(file: Path) -> dict[int, str]:
    rule = 'must map class numbers to names, {"1": "pink primrose", ...}'
    try:
        content = json.loads(decode(file.read_bytes(), file))
    except (OSError, ValueError):
        raise DataError(f"{file} {rule}; restore it, or remove it") from None
    if not isinstance(content, dict):
        raise DataError(f"{file} {rule}; restore it, or remove it")
    for number, name in content.items():
        if not re.fullmatch("[1-9][0-9]{0,8}", number) or not isinstance(name, str) or not name.strip():
            raise DataError(f"{file} {rule}, got {number!r:.40}: {name!r:.40}; restore it, or remove it")
    return {int(number): name.strip() for number, name in content.items()}


def _torchvision_names() -> dict[int, str]:
    from torchvision.datasets import Flowers102  # seconds, and only where no file has the names

    return {number: name.removesuffix("?") for number, name in enumerate(Flowers102.classes, start=1)}


def _read_variables(index: Path, names: tuple[str, ...], *, dataset: str, layout: str) -> list[NDArray[Any]]:
    """The variables of these names, each flat, in that order.

    `dataset` is what people call it, `layout` what data.root must hold. Raises DataError for a file that
    is missing or cannot be read, for a variable that is missing, and without scipy.
    """
    content = _load_matlab(index, dataset, layout)
    for name in names:
        if name not in content:
            held = f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
            raise DataError(f"{index} must hold {held}, {name} is missing; download the lists again")
    return [np.ravel(content[name]) for name in names]


def _whole_numbers(values: NDArray[Any], index: Path, what: str) -> list[int]:
    """Whole numbers, which MATLAB may store as floats. `what` ends "the file must ...", for a refusal."""
    return [_whole(value, index, what) for value in values]


def _cell_text(cell: object) -> str:
    """The text in a cell, through the one-element arrays that scipy wraps around it."""
    while isinstance(cell, np.ndarray):
        cell = np.ravel(cell)[0] if cell.size else ""
    return str(cell)


def _load_matlab(index: Path, dataset: str, layout: str) -> dict[str, Any]:
    try:
        from scipy.io import loadmat
    except ImportError:
        raise DataError(f"{dataset} needs scipy to read its lists: pip install 'mpfgvc[matlab]'") from None
    try:
        with index.open("rb") as file:
            return dict(loadmat(file))
    except FileNotFoundError:
        raise DataError(f"{index} does not exist; data.root must hold {layout}") from None
    except PermissionError as error:
        raise DataError(f"cannot read {index}: {error.strerror}; check the file's permissions") from None
    except Exception:  # a broken file leaves scipy as almost any exception
        raise DataError(f"{index} is not a readable MATLAB file; download the lists again") from None


def _whole(number: object, index: Path, what: str) -> int:
    value = float(number) if isinstance(number, np.integer | np.floating) else float("nan")
    if not value.is_integer():
        raise DataError(f"{index} must {what} whole numbers, got {number}; download the lists again")
    return int(value)
