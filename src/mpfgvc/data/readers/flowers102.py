"""The official layout of Oxford Flowers-102, whose lists are MATLAB files.

`jpg/image_00001.jpg` and so on; `imagelabels.mat` with the class number, from 1, of each picture (`labels`);
`setid.mat` with the picture numbers of the official split: `trnid`, `valid`, `tstid`. The authors publish
no class names. They come from `cat_to_name.json` where it lies beside the lists (`{"21": "fire lily", ...}`),
else from torchvision, whose list is the same.

These files may be in the folder itself or in the one folder below it that has them, as torchvision's
`flowers-102/` has.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path

from mpfgvc.data.listing import list_folder
from mpfgvc.data.readers.index_files import decode, refuse_missing
from mpfgvc.data.readers.matlab_files import read_variables, whole_numbers
from mpfgvc.data.samples import PhotoSet, Samples, Split, counted, in_short, relative_path
from mpfgvc.errors import DataError

_DATASET = "Oxford Flowers-102"
_LAYOUT = "imagelabels.mat, setid.mat and jpg/"
_SPLITS: dict[str, Split] = {"trnid": "train", "valid": "validation", "tstid": "test"}
"""The split of each variable of setid.mat."""


def read_flowers102(root: Path, *, check_files: bool = True) -> PhotoSet:
    """Oxford Flowers-102 with its official split, validation included; samples in the order of their numbers.

    A class counts if a photograph of it is in a split; labels follow the official class numbers.
    `check_files=False` reads only the lists.
    """
    home = _home(root)
    numbers = _class_numbers(home)
    splits = _splits(home, len(numbers))
    notes = [*(_check_pictures(home, len(numbers)) if check_files else ()), *_unused(numbers, splits)]
    used = sorted({numbers[picture - 1] for picture in splits})
    dense = {number: label for label, number in enumerate(used)}
    samples = Samples.of(
        root,
        [
            (relative_path(_picture(home, picture), root), dense[numbers[picture - 1]], splits[picture])
            for picture in sorted(splits)
        ],
    )
    return PhotoSet(name=_DATASET, classes=_class_names(home, used), samples=samples, notes=tuple(notes))


def _home(root: Path) -> Path:
    """The folder with the lists: the root itself, or the only folder in it that has one of them."""
    if _has_lists(root):
        return root
    below = [folder for folder in list_folder(root).folders if _has_lists(folder)]
    if len(below) > 1:
        names = in_short([folder.name for folder in below])
        raise DataError(f"{root} holds {_DATASET} {len(below)} times ({names}); set data.root to one of them")
    return below[0] if below else root


def _has_lists(folder: Path) -> bool:
    return (folder / "setid.mat").exists() or (folder / "imagelabels.mat").exists()


def _picture(home: Path, number: int) -> Path:
    return home / "jpg" / f"image_{number:05d}.jpg"


def _class_numbers(home: Path) -> list[int]:
    """The class number, from 1, of each picture."""
    index = home / "imagelabels.mat"
    (labels,) = read_variables(index, ("labels",), dataset=_DATASET, layout=_LAYOUT)
    numbers = whole_numbers(labels, index, "label pictures with")
    wrong = next((number for number in numbers if number < 1), None)
    if wrong is not None:
        raise DataError(f"{index} must give labels from 1, got {wrong}; download the lists again")
    return numbers


def _splits(home: Path, pictures: int) -> dict[int, Split]:
    """The split of each picture number, from 1, that is in one."""
    index = home / "setid.mat"
    variables = read_variables(index, tuple(_SPLITS), dataset=_DATASET, layout=_LAYOUT)
    named: dict[int, list[str]] = defaultdict(list)
    for name, variable in zip(_SPLITS, variables, strict=True):
        for number in whole_numbers(variable, index, "list pictures by"):
            named[number].append(name)
    for number, names in named.items():
        if not 1 <= number <= pictures:
            raise DataError(
                f"{index} must list pictures from 1 to {pictures}, as many as imagelabels.mat labels, "
                f"got {number} in {names[0]}; take both files from one release"
            )
    _refuse_repeated(index, named)
    return {number: _SPLITS[names[0]] for number, names in named.items()}


def _refuse_repeated(index: Path, named: dict[int, list[str]]) -> None:
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


def _check_pictures(home: Path, labels: int) -> list[str]:
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


def _class_names(home: Path, numbers: list[int]) -> tuple[str, ...]:
    """The names of the classes in use. Raises DataError for one without a name."""
    file = home / "cat_to_name.json"
    names, source = (_read_names(file), str(file)) if file.exists() else (_known_names(), "torchvision")
    unnamed = [str(number) for number in numbers if number not in names]
    if unnamed:
        raise DataError(
            f"{source} names no class {in_short(unnamed)} of {home / 'imagelabels.mat'}; "
            'complete cat_to_name.json: {"1": "pink primrose", ...}'
        )
    return tuple(names[number] for number in numbers)


def _read_names(file: Path) -> dict[int, str]:
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


def _known_names() -> dict[int, str]:
    from torchvision.datasets import Flowers102  # seconds, and only where no file has the names

    return {number: name.removesuffix("?") for number, name in enumerate(Flowers102.classes, start=1)}
