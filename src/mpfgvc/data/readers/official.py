"""The official layouts of CUB-200-2011, NABirds, Food-101, Stanford Dogs and Oxford Flowers-102.

A reader takes the folder of the unpacked dataset and returns its photographs in the order of its lists, with
the official split. A class counts if a photograph of it is listed, so a subset of a dataset is read as it is.
Labels follow the order of the official class ids. `check_files=False` does not look for the images.

The lists of Dogs and Flowers are MATLAB 5.0 files and need scipy, the extra `matlab`.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mpfgvc.data.listing import list_folder
from mpfgvc.data.names import bird_name, breed_name, dish_name, nabird_name
from mpfgvc.data.readers.index_files import (
    read_bytes,
    read_lines,
    read_names,
    read_numbers,
    read_pairs,
    refuse_missing,
    refuse_repeated,
)
from mpfgvc.data.samples import PhotoSet, Samples, Split, counted, in_short, relative_path
from mpfgvc.errors import DataError

_FLOWERS = (
    "pink primrose, hard-leaved pocket orchid, canterbury bells, sweet pea, english marigold, tiger lily, moon "
    "orchid, bird of paradise, monkshood, globe thistle, snapdragon, colt's foot, king protea, spear thistle, yellow "
    "iris, globe-flower, purple coneflower, peruvian lily, balloon flower, giant white arum lily, fire lily, "
    "pincushion flower, fritillary, red ginger, grape hyacinth, corn poppy, prince of wales feathers, stemless "
    "gentian, artichoke, sweet william, carnation, garden phlox, love in the mist, mexican aster, alpine sea holly, "
    "ruby-lipped cattleya, cape flower, great masterwort, siam tulip, lenten rose, barbeton daisy, daffodil, sword "
    "lily, poinsettia, bolero deep blue, wallflower, marigold, buttercup, oxeye daisy, common dandelion, petunia, "
    "wild pansy, primula, sunflower, pelargonium, bishop of llandaff, gaura, geranium, orange dahlia, pink-yellow "
    "dahlia, cautleya spicata, japanese anemone, black-eyed susan, silverbush, californian poppy, osteospermum, "
    "spring crocus, bearded iris, windflower, tree poppy, gazania, azalea, water lily, rose, thorn apple, morning "
    "glory, passion flower, lotus, toad lily, anthurium, frangipani, clematis, hibiscus, columbine, desert-rose, tree "
    "mallow, magnolia, cyclamen, watercress, canna lily, hippeastrum, bee balm, ball moss, foxglove, bougainvillea, "
    "camellia, mallow, mexican petunia, bromelia, blanket flower, trumpet creeper, blackberry lily"
)
"""The names of the classes of Flowers-102, which is published without, in the list that everybody uses."""
Key = TypeVar("Key", int, str)


def read_cub(root: Path, *, check_files: bool = True) -> PhotoSet:
    """CUB-200-2011. `001.Black_footed_Albatross` is named `Black footed Albatross`."""
    return _read_numbered(root, "CUB-200-2011", bird_name, check_files)


def read_nabirds(root: Path, *, check_files: bool = True) -> PhotoSet:
    """NABirds. Its class ids are nodes of a tree; only the leaves, 555 in all, have photographs.

    Names keep sex and plumage, `Common Eider (Adult male)`: these are classes of their own.
    """
    return _read_numbered(root, "NABirds", nabird_name, check_files)


def read_food101(root: Path, *, check_files: bool = True) -> PhotoSet:
    """Food-101. `apple_pie` is named `apple pie`."""
    meta = root / "meta"
    names = {folder: dish_name(folder) for _, folder in read_lines(meta / "classes.txt")}
    splits: tuple[Split, ...] = ("train", "test")
    rows: list[tuple[str, str, Split]] = []
    for split in splits:
        for number, entry in read_lines(meta / f"{split}.txt"):
            folder, _, image_id = entry.partition("/")
            if folder not in names or not image_id or "/" in image_id:
                where = f"{meta / split}.txt line {number}"
                raise DataError(f"{where} must be CLASS/ID, the class in classes.txt, got {entry!r:.60}")
            rows.append((f"images/{entry}.jpg", folder, split))
    return _photo_set("Food-101", root, meta, rows, names, check_files)


def read_dogs(root: Path, *, check_files: bool = True) -> PhotoSet:
    """Stanford Dogs. `n02085620-Chihuahua` is named `Chihuahua`. The lists may be in `lists/`."""
    lists = root / "lists" if (root / "lists" / "train_list.mat").exists() else root
    splits: tuple[Split, ...] = ("train", "test")
    rows: list[tuple[str, int, Split]] = []
    folders: dict[int, str] = {}
    for split in splits:
        index = lists / f"{split}_list.mat"
        files, labels = _read_matlab(index, "file_list", "labels")
        if len(files) != len(labels):
            raise DataError(f"{index} must label every file, got {len(files)} files and {len(labels)} labels")
        for file, number in zip(map(_cell_text, files), _whole_numbers(labels, index), strict=True):
            folder = folders.setdefault(number, file.partition("/")[0])
            if not file.startswith(f"{folder}/"):
                raise DataError(f"{index} gives {file} the label {number}, that of {folder}; download the lists again")
            rows.append((f"Images/{file}", number, split))
    names = {number: breed_name(folders[number]) for number in sorted(folders)}
    return _photo_set("Stanford Dogs", root, lists, rows, names, check_files)


def read_flowers102(root: Path, *, check_files: bool = True) -> PhotoSet:
    """Oxford Flowers-102, validation included, in the order of the numbers of its pictures.

    The files may be in `flowers-102/`, as torchvision has them.
    """
    home = root / "flowers-102" if (root / "flowers-102" / "setid.mat").exists() else root
    (variable,) = _read_matlab(home / "imagelabels.mat", "labels")
    labels = _whole_numbers(variable, home / "imagelabels.mat")
    splits: dict[str, Split] = {"trnid": "train", "valid": "validation", "tstid": "test"}
    index = home / "setid.mat"
    rows: list[tuple[str, int, Split]] = []
    for split, variable in zip(splits.values(), _read_matlab(index, *splits), strict=True):
        for picture in _whole_numbers(variable, index):
            if not 1 <= picture <= len(labels):
                rule = f"must list pictures from 1 to {len(labels)}, as many as imagelabels.mat labels"
                raise DataError(f"{index} {rule}, got {picture}; take both files from one release")
            rows.append((relative_path(_picture(home, picture), root), labels[picture - 1], split))
    known = {_picture(home, picture).name for picture in range(1, len(labels) + 1)}
    unused = sorted(known - {path.rpartition("/")[2] for path, _, _ in rows})
    notes = [counted("pictures in no split, left out", unused, len(labels))] if unused else []
    if check_files and (home / "jpg").is_dir():
        others = [path.name for path in list_folder(home / "jpg").photographs if path.name not in known]
        notes += [counted("photographs in jpg/ that the lists do not name, left out", others)] if others else []
    names = dict(enumerate(_FLOWERS.split(", "), start=1))
    return _photo_set("Oxford Flowers-102", root, index, sorted(rows), names, check_files, notes)


def _read_numbered(root: Path, title: str, readable: Callable[[str], str], check_files: bool) -> PhotoSet:
    """The layout that CUB and NABirds share: image ids joined over four lists."""
    pictures = read_pairs(root / "images.txt")
    labels = _of_images(pictures, root / "image_class_labels.txt")
    training = _of_images(pictures, root / "train_test_split.txt")
    for image_id, value in training.items():
        if value not in (0, 1):
            rule = f"must give 1 (train) or 0 (test), got {value} for image {image_id}"
            raise DataError(f"{root / 'train_test_split.txt'} {rule}; restore it")
    rows: list[tuple[str, int, Split]] = [
        (f"images/{picture}", labels[image_id], "train" if training[image_id] else "test")
        for image_id, picture in pictures.items()
    ]
    names = {number: readable(name) for number, name in sorted(read_names(root / "classes.txt").items())}
    return _photo_set(title, root, root / "images.txt", rows, names, check_files)


def _of_images(pictures: Mapping[str, str], index: Path) -> dict[str, int]:
    """The numbers that a list gives to images. Raises DataError where it lacks one."""
    numbers = read_numbers(index)
    lacking = [image_id for image_id in pictures if image_id not in numbers]
    if lacking:
        count = f"{index} gives no number for {len(lacking)} images of images.txt: {in_short(lacking)}"
        raise DataError(f"{count}; take all index files from one release")
    return numbers


def _photo_set(
    title: str,
    root: Path,
    index: Path,
    rows: Sequence[tuple[str, Key, Split]],
    names: Mapping[Key, str],
    check_files: bool,
    notes: Sequence[str] = (),
) -> PhotoSet:
    """The dataset of path, class and split of each photograph; `names` are all classes, in their order."""
    refuse_repeated(index, (path for path, _, _ in rows))
    used = {key for _, key, _ in rows}
    unnamed = used - names.keys()
    if unnamed:
        raise DataError(f"{index}: the class {min(unnamed)} has no name; take all index files from one release")
    labels = {key: label for label, key in enumerate(key for key in names if key in used)}
    samples = Samples.of(root, [(path, labels[key], split) for path, key, split in rows])
    if check_files:
        refuse_missing(index, [sample.path for sample in samples])
    return PhotoSet(name=title, classes=tuple(names[key] for key in labels), samples=samples, notes=tuple(notes))


def _picture(home: Path, number: int) -> Path:
    return home / "jpg" / f"image_{number:05d}.jpg"


def _read_matlab(index: Path, *names: str) -> list[NDArray[Any]]:
    """The variables of these names in a MATLAB file, each flat: MATLAB writes a list as one row or one column."""
    try:
        from scipy.io import loadmat
    except ImportError:
        raise DataError(f"{index} needs scipy to be read: pip install 'mpfgvc[matlab]'") from None
    try:
        content = loadmat(io.BytesIO(read_bytes(index)))
        return [np.ravel(content[name]) for name in names]
    except DataError:
        raise
    except KeyError as error:
        raise DataError(f"{index} must hold {', '.join(names)}, got no {error}; download the lists again") from None
    except Exception:  # a broken file leaves scipy as almost any exception
        raise DataError(f"{index} is not a readable MATLAB file; download the lists again") from None


def _cell_text(cell: object) -> str:
    """The text in a cell, through the one-element arrays that scipy wraps around it."""
    while isinstance(cell, np.ndarray):
        cell = np.ravel(cell)[0] if cell.size else ""
    return str(cell)


def _whole_numbers(values: NDArray[Any], index: Path) -> list[int]:
    """Whole numbers, which MATLAB may store as floats."""
    if values.dtype.kind not in "iuf" or (values != np.floor(values)).any():
        raise DataError(f"{index} must hold whole numbers; download the lists again")
    return [int(value) for value in values]
