"""WebDataset shards: tar files whose members of one name belong together (`data.dataset: shards`).

    birds-000000.tar     000000000.jpg, 000000000.cls, 000000000.json, 000000001.jpg, ...
    shards.json          class names and shards;  shards.idx: where each photograph is

Both indexes are those of `mpfgvc data pack`. Shards of others are read without: from their headers, and the
label from `.cls` (a class name, or a number into `classes.txt`, one name in a line) or `.json` (`class`, and
`split` if there is one). A shard with train, val or test in its name says the split of all it holds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from mpfgvc.config import DataConfig
from mpfgvc.data.listing import IMAGE_SUFFIXES, list_folder, natural_key
from mpfgvc.data.place import dataset_root, is_remote
from mpfgvc.data.readers.index_files import read_lines
from mpfgvc.data.remote import fetch, is_fetched, write_origin
from mpfgvc.data.samples import SPLIT_NAMES, PhotoSet, Split, counted
from mpfgvc.data.shard_index import (
    INDEX,
    LAYOUT,
    PLAN,
    Layout,
    ShardSample,
    check_index,
    refuse_damaged,
)
from mpfgvc.data.shard_table import ShardTable
from mpfgvc.data.split import with_test
from mpfgvc.data.tars import Member, Packed, inside, members
from mpfgvc.errors import DataError

CLASSES = "classes.txt"
_MOST_LABEL_BYTES = 1024**2


def read_shards(root: Path, *, test_share: float, seed: int) -> PhotoSet:
    """The photographs in the shards of a folder. Raises DataError naming the shard that breaks a rule."""
    if (root / LAYOUT).is_file():
        return _packed(root)
    if (root / PLAN).is_file():
        raise DataError(f"{root} was not packed to its end; run the same mpfgvc data pack again")
    labelled, notes = _read_headers(root)
    listed = [name for _, name in read_lines(root / CLASSES)] if (root / CLASSES).is_file() else None
    names = listed or sorted({each.label for each in labelled}, key=natural_key)
    labels = _numbers(names, is_listed=listed is not None)
    for each in labelled:
        if each.label not in labels:
            raise DataError(f"{each.path}: its class {each.label!r} is not in {root / CLASSES}; add it there")
    samples = tuple(
        ShardSample(path=each.path, label=labels[each.label], split=each.split or "train", member=each.member)
        for each in labelled
    )
    divided, more = with_test(samples, names, test_share, seed)
    return PhotoSet(name=root.name, classes=tuple(names), samples=divided, notes=(*notes, *more))


def read_layout(config: DataConfig) -> Layout | None:
    """What the packed shards that the settings name are; None if there are none. Raises DataError."""
    root = dataset_root(config)
    if root is None:
        return None
    if is_remote(config):
        fetch_index(root, config)
    return Layout.read(root / LAYOUT) if (root / LAYOUT).is_file() else None


def fetch_index(root: Path, config: DataConfig) -> None:
    """Fetch the indexes of the shards at a URL to `root`, where the shards will come when they are read.

    Raises DataError naming the file that cannot be fetched.
    """
    try:
        write_origin(root, str(config.root), round(config.cache_gb * 1e9))
        for name in (LAYOUT, INDEX):
            fetch(root / name)
    except OSError as error:
        hint = "set XDG_CACHE_HOME to a folder on another disk"
        raise DataError(f"cannot write {root}: {error.strerror}; {hint}") from None
    except ValueError as error:
        raise DataError(f"{error}; data.root must be a folder that mpfgvc data pack wrote") from None


@dataclass(frozen=True, kw_only=True)
class _Labelled:
    path: Path
    member: Member
    label: str
    split: Split | None


def _packed(root: Path) -> PhotoSet:
    layout = Layout.read(root / LAYOUT)
    if not is_fetched(root):
        refuse_damaged(root, layout.shards)
    check_index(root / INDEX, layout)
    return PhotoSet(
        name=layout.name,
        classes=layout.classes,
        samples=ShardTable(folder=root, layout=layout, file=root / INDEX),
        supercategory=layout.supercategory,
    )


def _read_headers(root: Path) -> tuple[list[_Labelled], tuple[str, ...]]:
    """All labelled photographs in the order of the shards, and notes on what is left out."""
    tars = [path for path in list_folder(root).others if path.suffix.lower() == ".tar"]
    if not tars:
        raise DataError(
            f"{root} holds no shards (.tar files); check data.root, or write some: mpfgvc data pack"
        )
    found: list[_Labelled] = []
    unlabelled: list[str] = []
    for tar in tars:
        for group in _groups(tar):
            image = next((name for name in group if Path(name).suffix.lower() in IMAGE_SUFFIXES), None)
            if image is None:
                continue
            label, split = _label(tar, group)
            if label is None:
                unlabelled.append(f"{tar.name}!{image}")
                continue
            where = inside(tar, image)
            split = split or _split_of(tar)
            found.append(_Labelled(path=where, member=group[image], label=label, split=split))
    if not found:
        raise DataError(f"{root}: no photograph has a label; the shards must hold a .cls or .json for each")
    notes = (counted("photographs without a label, left out", unlabelled),) if unlabelled else ()
    return found, notes


def _groups(tar: Path) -> Iterator[dict[str, Member]]:
    """The members of a tar file that belong together: those of one name up to the first dot."""
    groups: dict[str, dict[str, Member]] = {}
    try:
        for name, member in members(tar).items():
            folder, _, file = name.rpartition("/")
            groups.setdefault(f"{folder}/{file.partition('.')[0]}", {})[name] = member
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"cannot read the shard {tar}: {reason}") from None
    return iter(groups.values())


def _label(tar: Path, group: Mapping[str, Member]) -> tuple[str | None, Split | None]:
    """The class of a photograph as text, and its split if one is named."""
    texts = {
        Path(name).suffix.lower(): _text(tar, name, member)
        for name, member in group.items()
        if Path(name).suffix.lower() in (".cls", ".json")
    }
    facts = _facts(tar, texts[".json"]) if ".json" in texts else {}
    split = SPLIT_NAMES.get(str(facts.get("split", "")).casefold())
    label = facts.get("class", texts.get(".cls", facts.get("label")))
    return (None if label is None else str(label).strip() or None), split


def _facts(tar: Path, text: str) -> dict[str, object]:
    try:
        facts = json.loads(text)
    except (ValueError, RecursionError):
        _refuse(tar, "one of its .json is not JSON")
    return facts if isinstance(facts, dict) else {}


def _text(tar: Path, name: str, member: Member) -> str:
    if member.size > _MOST_LABEL_BYTES:
        _refuse(tar, f"{name} has {member.size} bytes, too many for a label")
    try:
        return Packed(inside(tar, name), member).read().decode()
    except (OSError, ValueError) as error:
        _refuse(tar, f"{name} cannot be read ({error})")


def _split_of(tar: Path) -> Split | None:
    """The split that the name of a shard says: cub-train-000001.tar."""
    words = re.split(r"[^a-z]+", tar.stem.casefold())
    return next((SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES), None)


def _numbers(names: list[str], *, is_listed: bool) -> dict[str, int]:
    """The label of each class name; of its number in the list, too, unless a class is called that."""
    numbers = {str(number): number for number in range(len(names))} if is_listed else {}
    return numbers | {name: number for number, name in enumerate(names)}


def _refuse(tar: Path, rule: str) -> NoReturn:
    raise DataError(f"{tar}: {rule}; write the shard again")
