"""The official layout of Stanford Dogs, whose lists are MATLAB files.

`train_list.mat` and `test_list.mat` are in the dataset's folder or in `lists/`.
Each holds `file_list`, a column of cells such as
`n02085620-Chihuahua/n02085620_5927.jpg` below `Images/`, and `labels`, a column
of class numbers from 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from mpfgvc.data.names import breed_name
from mpfgvc.data.readers.index_files import refuse_missing, refuse_repeated
from mpfgvc.data.readers.matlab_files import cell_text, read_variables, whole_numbers
from mpfgvc.data.samples import PhotoSet, Samples, Split
from mpfgvc.errors import DataError

_LAYOUT = "train_list.mat, test_list.mat and Images/"


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
    samples = Samples.of(root, [(f"Images/{file}", dense[number], split) for file, number, split in entries])
    if check_files:
        refuse_missing(lists, [sample.path for sample in samples])
    names = tuple(breed_name(folders[number]) for number in sorted(folders))
    return PhotoSet(name="Stanford Dogs", classes=names, samples=samples)


def _indexes(lists: Path) -> Iterable[tuple[Split, Path]]:
    return ("train", lists / "train_list.mat"), ("test", lists / "test_list.mat")


def _read_list(index: Path) -> list[tuple[str, int]]:
    """Each file of a list with its class number from 1."""
    cells, labels = read_variables(index, ("file_list", "labels"), dataset="Stanford Dogs", layout=_LAYOUT)
    files = [cell_text(cell) for cell in cells]
    numbers = whole_numbers(labels, index, "label files with")
    if len(files) != len(numbers):
        raise DataError(f"{index} must label every file, got {len(files)} files and {len(numbers)} labels")
    for file, number in zip(files, numbers, strict=True):
        if number < 1 or "/" not in file or file != file.strip():
            raise DataError(f"{index} must give CLASS/FILE and a label from 1, got {file!r:.60} and {number}")
    return list(zip(files, numbers, strict=True))


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
