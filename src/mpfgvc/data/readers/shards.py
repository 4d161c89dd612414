"""WebDataset shards: tar files whose members of one name belong together (`data.dataset: shards`).

    birds-000000.tar     000000000.jpg, 000000000.cls, 000000000.json, 000000001.jpg, ...
    photographs.json     of `mpfgvc data pack`: classes, and the label, split and digest of every photograph

Shards of others have no such list. A photograph and its label have the same name up to the last dot: `.cls`
holds a class name, or a number into `classes.txt`, one name in a line; `.json` holds `class` or `label`, and
`split` if there is one. A shard with train, val or test in its name says the split of all it holds.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from mpfgvc.data.listing import IMAGE_SUFFIXES, list_folder
from mpfgvc.data.photographs_file import PHOTOGRAPHS, load_photos
from mpfgvc.data.readers.index_files import read_lines
from mpfgvc.data.samples import SPLIT_NAMES, LabelledPhoto, PhotoSet, Split, counted
from mpfgvc.data.split import photo_set
from mpfgvc.data.tars import Member, inside, members, read_member
from mpfgvc.errors import DataError

CLASSES = "classes.txt"
PLAN = "shards.plan.json"
_MOST_LABEL_BYTES = 1024**2


def read_shards(root: Path, *, test_share: float, seed: int) -> PhotoSet:
    """The photographs in the shards of a folder. Raises DataError naming the shard that breaks a rule."""
    if (root / PHOTOGRAPHS).is_file():
        return _read_packed(root)
    if (root / PLAN).is_file():
        raise DataError(f"{root} was not packed to its end; run the same mpfgvc data pack again")
    tars = [path for path in list_folder(root).others if path.suffix.lower() == ".tar"]
    if not tars:
        raise DataError(f"{root} holds no shards (.tar files); check data.root, or write some: mpfgvc data pack")
    names = [name for _, name in read_lines(root / CLASSES)] if (root / CLASSES).is_file() else []
    numbers = {str(number): name for number, name in enumerate(names)}
    photos: list[LabelledPhoto] = []
    unlabelled: list[str] = []
    for tar in tars:
        held = _members(tar)
        images = [name for name in held if Path(name).suffix.lower() in IMAGE_SUFFIXES]
        stems = Counter(map(_stem, images))
        for image in images:
            label, split = _label(tar, held, _stem(image))
            if label is None:
                unlabelled.append(f"{tar.name}!{image}")
                continue
            if stems[_stem(image)] > 1:
                _refuse(tar, f"it holds {stems[_stem(image)]} photographs of the name {_stem(image)}")
            name = label if label in names or not names else numbers.get(label)
            if name is None:
                raise DataError(f"{inside(tar, image)}: its class {label!r} is not in {root / CLASSES}; add it there")
            photos.append(LabelledPhoto(inside(tar, image), name, split or _split_of(tar)))
    if not photos:
        rule = "no photograph has a label; each needs a .cls or .json of its name up to the last dot"
        raise DataError(f"{root}: {rule}")
    notes = [counted("photographs without a label, left out", unlabelled)] if unlabelled else []
    return photo_set(root.name, root, photos, classes=names, test_share=test_share, seed=seed, notes=notes)


def _read_packed(root: Path) -> PhotoSet:
    photos = load_photos(root / PHOTOGRAPHS)
    for path in photos.samples.paths:
        tar, _, name = path.partition("!")
        if name not in _members(root / Path(tar).name):
            _refuse(root / tar, f"it does not hold {name}, which {PHOTOGRAPHS} lists")
    return replace(photos, samples=replace(photos.samples, root=root))


def _members(tar: Path) -> Mapping[str, Member]:
    try:
        return members(tar)
    except FileNotFoundError:
        raise DataError(f"the shard {tar} does not exist; copy it beside {PHOTOGRAPHS}") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"cannot read the shard {tar}: {reason}") from None


def _stem(name: str) -> str:
    """The name up to its last dot."""
    return name[: len(name) - len(Path(name).suffix)]


def _label(tar: Path, held: Mapping[str, Member], stem: str) -> tuple[str | None, Split | None]:
    """The class of a photograph as text, and its split if one is named."""
    texts = {suffix: _text(tar, stem + suffix, held) for suffix in (".cls", ".json") if stem + suffix in held}
    try:
        facts = json.loads(texts.get(".json", "{}"))
    except (ValueError, RecursionError):
        _refuse(tar, f"{stem}.json is not JSON")
    facts = facts if isinstance(facts, dict) else {}
    label = facts.get("class", texts.get(".cls", facts.get("label")))
    split = SPLIT_NAMES.get(str(facts.get("split", "")).casefold())
    return (None if label is None else str(label).strip() or None), split


def _text(tar: Path, name: str, held: Mapping[str, Member]) -> str:
    if held[name].size > _MOST_LABEL_BYTES:
        _refuse(tar, f"{name} has {held[name].size} bytes, too many for a label")
    try:
        return (read_member(inside(tar, name)) or b"").decode()
    except (OSError, ValueError) as error:
        _refuse(tar, f"{name} cannot be read ({error})")


def _split_of(tar: Path) -> Split | None:
    """The split that the name of a shard says: cub-train-000001.tar."""
    words = re.split(r"[^a-z]+", tar.stem.casefold())
    return next((SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES), None)


def _refuse(tar: Path, rule: str) -> NoReturn:
    raise DataError(f"{tar}: {rule}; write the shard again")
