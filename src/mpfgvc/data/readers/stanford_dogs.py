"""The official layout of Stanford Dogs, whose lists are MATLAB files.

`train_list.mat` and `test_list.mat` are in the dataset's folder or in `lists/`.
Each holds `file_list`, a column of cells such as
`n02085620-Chihuahua/n02085620_5927.jpg` below `Images/`, and `labels`, a column
of class numbers from 1. Needs scipy, the extra `dogs`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from mpfgvc.data.class_names import breed_name
from mpfgvc.data.readers.index_files import refuse_missing, refuse_repeated
from mpfgvc.data.samples import PhotoSet, Sample, Split
from mpfgvc.errors import DataError


def read_dogs(root: Path, *, check_files: bool = True) -> PhotoSet:
    """Stanford Dogs with its official split. `n02085620-Chihuahua` is named `Chihuahua`.

    A class counts if a photograph of it is listed; labels follow the official
    class numbers. `check_files=False` reads only the lists.
    """
    lists = root / "lists" if (root / "lists" / "train_list.mat").exists() else root
    entries: list[tuple[str, int, Split]] = []
    for split, index in _indexes(lists):
        entries += [(file, number, split) for file, number in _read_list(index)]
    refuse_repeated(lists, (file for file, _, _ in entries))
    folders = _class_folders(lists, [(file, number) for file, number, _ in entries])
    dense = {number: label for label, number in enumerate(sorted(folders))}
    images = root / "Images"
    samples = tuple(
        Sample(path=images / file, label=dense[number], split=split) for file, number, split in entries
    )
    if check_files:
        refuse_missing(lists, [sample.path for sample in samples])
    names = tuple(breed_name(folders[number]) for number in sorted(folders))
    return PhotoSet(name="Stanford Dogs", classes=names, samples=samples)


def _indexes(lists: Path) -> Iterable[tuple[Split, Path]]:
    return ("train", lists / "train_list.mat"), ("test", lists / "test_list.mat")


def _read_list(index: Path) -> list[tuple[str, int]]:
    """Each file of a list with its class number from 1."""
    content = _load_matlab(index)
    for key in ("file_list", "labels"):
        if key not in content:
            raise DataError(
                f"{index} must hold file_list and labels, {key} is missing; download the lists again"
            )
    files = [_unwrap(cell) for cell in np.ravel(content["file_list"])]
    numbers = [_whole(number, index) for number in np.ravel(content["labels"])]
    if len(files) != len(numbers):
        raise DataError(f"{index} must label every file, got {len(files)} files and {len(numbers)} labels")
    for file, number in zip(files, numbers, strict=True):
        if number < 1 or "/" not in file or file != file.strip():
            raise DataError(f"{index} must give CLASS/FILE and a label from 1, got {file!r:.60} and {number}")
    return list(zip(files, numbers, strict=True))


def _load_matlab(index: Path) -> dict[str, Any]:
    try:
        from scipy.io import loadmat
    except ImportError:
        raise DataError("Stanford Dogs needs scipy to read its lists: pip install 'mpfgvc[dogs]'") from None
    if not index.exists():
        raise DataError(
            f"{index} does not exist; data.root must hold train_list.mat, test_list.mat and Images/"
        )
    try:
        content: dict[str, Any] = loadmat(index)
    except Exception:  # a broken file leaves scipy as almost any exception
        raise DataError(f"{index} is not a readable MATLAB file; download the lists again") from None
    return content


def _unwrap(cell: Any) -> str:
    """The text in a cell, through the one-element arrays that scipy wraps around it."""
    while isinstance(cell, np.ndarray):
        cell = np.ravel(cell)[0] if cell.size else ""
    return str(cell)


def _whole(number: object, index: Path) -> int:
    """A label, which MATLAB may store as a float."""
    value = float(str(number)) if isinstance(number, np.integer | np.floating) else float("nan")
    if not value.is_integer():
        raise DataError(
            f"{index} must label files with whole numbers, got {number}; download the lists again"
        )
    return int(value)


def _class_folders(lists: Path, entries: Iterable[tuple[str, int]]) -> dict[int, str]:
    """The class folder of each number; refuses a number with two folders, or a folder with two numbers."""
    folders: dict[int, str] = {}
    numbers: dict[str, int] = {}
    for file, number in entries:
        folder = file.split("/")[0]
        if folders.setdefault(number, folder) != folder or numbers.setdefault(folder, number) != number:
            raise DataError(
                f"{lists}: the lists give {file} the label {number}, against another entry; "
                "download the lists again"
            )
    return folders
