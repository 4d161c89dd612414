"""WebDataset shards: tar files whose members of one name belong together (`data.dataset: shards`).

    birds-000000.tar     000000000.jpg, 000000000.cls, 000000000.json, 000000001.jpg, ...
    shards.json          class names and shards;  shards.idx: where each photograph is, a `ROW` each

Both indexes are those of `mpfgvc data pack`. Shards of others are read without: from their headers, and the
label from `.cls` (a class name, or a number into `classes.txt`, one name in a line) or `.json` (`class`, and
`split` if there is one). A shard with train, val or test in its name says the split of all it holds.

A photograph and its label have the same name up to the last dot. Else the names up to the first dot are
compared, as WebDataset does, where only one photograph has that one.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, NoReturn

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from mpfgvc.data.listing import IMAGE_SUFFIXES, list_folder
from mpfgvc.data.readers.index_files import read_lines
from mpfgvc.data.samples import SPLIT_NAMES, SPLITS, LabelledPhoto, PhotoSet, Samples, Split, counted
from mpfgvc.data.split import photo_set
from mpfgvc.data.tars import Member, Packed, inside, members
from mpfgvc.errors import DataError
from mpfgvc.files import write_bytes, write_text

CLASSES = "classes.txt"
LAYOUT, INDEX, PLAN = "shards.json", "shards.idx", "shards.plan.json"
FORMAT: Literal[2] = 2
ROW = np.dtype(
    [
        ("offset", "<u8"),  # of the first byte of the photograph in its tar file
        ("size", "<u4"),
        ("shard", "<u4"),
        ("number", "<u4"),  # the name of the member
        ("label", "<u4"),
        ("split", "u1"),
        ("suffix", "u1"),
        ("digest", "u1", 16),  # `photo_digest`
    ]
)
_MOST_LABEL_BYTES = 1024**2


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What `shards.json` says. `size` is the shorter side of resized copies, None for whole files."""

    name: str
    classes: tuple[str, ...]
    supercategory: str | None
    size: int | None
    suffixes: tuple[str, ...]
    shards: tuple[tuple[str, int, int], ...]
    """The name of each shard, its bytes, and how many photographs it holds."""
    index_digest: str
    format: Literal[2] = FORMAT

    @classmethod
    def read(cls, file: Path) -> Layout:
        """The layout in a `shards.json`. Raises DataError for anything else."""
        try:
            layout = TypeAdapter(cls).validate_python(json.loads(file.read_bytes()))
        except OSError as error:
            raise DataError(f"cannot read {file}: {error.strerror}; check its permissions") from None
        except (ValueError, RecursionError):
            _refuse(file, f"it must be JSON of format {FORMAT}, with the names and sizes of the shards")
        if any(Path(name).name != name for name, _, _ in layout.shards):
            _refuse(file, "a shard must be beside its index")
        return layout


def member_name(number: int, suffix: str) -> str:
    """What a photograph is called inside its shard."""
    return f"{number:09d}{suffix}"


def save_index(folder: Path, layout: Layout, rows: NDArray[np.void]) -> None:
    """Write the index, then the layout, which makes the folder a dataset. Raises OutputError."""
    write_bytes(folder / INDEX, rows.tobytes())
    write_text(folder / LAYOUT, json.dumps(asdict(layout), indent=1) + "\n")


def index_digest(content: bytes) -> str:
    """A digest of the index, as `shards.json` keeps it."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def read_shards(root: Path, *, test_share: float, seed: int) -> PhotoSet:
    """The photographs in the shards of a folder. Raises DataError naming the shard that breaks a rule."""
    if (root / LAYOUT).is_file():
        return _read_packed(root)
    if (root / PLAN).is_file():
        raise DataError(f"{root} was not packed to its end; run the same mpfgvc data pack again")
    labelled, notes = _read_headers(root)
    names = [name for _, name in read_lines(root / CLASSES)] if (root / CLASSES).is_file() else []
    numbers = {str(number): name for number, name in enumerate(names)}
    photos = []
    for photo in labelled:
        name = photo.class_name if photo.class_name in names else numbers.get(photo.class_name)
        if names and name is None:
            rule = f"its class {photo.class_name!r} is not in {root / CLASSES}; add it there"
            raise DataError(f"{photo.path}: {rule}")
        photos.append(photo._replace(class_name=name or photo.class_name))
    return photo_set(root.name, root, photos, classes=names, test_share=test_share, seed=seed, notes=notes)


def _read_packed(root: Path) -> PhotoSet:
    layout = Layout.read(root / LAYOUT)
    for name, size, _ in layout.shards:
        _refuse_damaged(root / name, size)
    rows = _read_index(root / INDEX, layout)
    columns = (rows[name].tolist() for name in ("shard", "number", "suffix", "label", "split"))
    names = [
        (f"{layout.shards[shard][0]}!{member_name(number, layout.suffixes[suffix])}", label, SPLITS[split])
        for shard, number, suffix, label, split in zip(*columns, strict=True)
    ]
    known = vars(Samples.of(root, names)) | {
        "digests": np.frombuffer(rows["digest"].tobytes().hex().encode(), "S32"),
        "members": np.stack((rows["offset"], rows["size"]), axis=1).astype(np.int64),
    }
    return PhotoSet(
        name=layout.name, classes=layout.classes, samples=Samples(**known), supercategory=layout.supercategory
    )


def _read_index(file: Path, layout: Layout) -> NDArray[np.void]:
    """The rows of an index. Raises DataError for one that is not that of the layout."""
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{file} does not exist; copy it beside {LAYOUT}") from None
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror}; check its permissions") from None
    if index_digest(content) != layout.index_digest or len(content) % ROW.itemsize:
        _refuse(file, f"it is another than {LAYOUT} says")
    rows = np.frombuffer(content, ROW)
    known = {
        "label": len(layout.classes),
        "split": len(SPLITS),
        "shard": len(layout.shards),
        "suffix": len(layout.suffixes),
    }
    for column, count in known.items():
        if len(rows) and rows[column].max() >= count:
            _refuse(file, f"it names a {column} that there is not")
    return rows


def _refuse_damaged(shard: Path, size: int) -> None:
    """Raise DataError for a shard that is missing or has another size than when it was packed."""
    try:
        got = shard.stat().st_size
    except FileNotFoundError:
        raise DataError(f"the shard {shard} does not exist; copy it beside {LAYOUT}") from None
    except OSError as error:
        raise DataError(f"cannot read the shard {shard}: {error.strerror}") from None
    if got != size:
        raise DataError(f"the shard {shard} must have {size} bytes, got {got}; copy it again")


def _read_headers(root: Path) -> tuple[list[LabelledPhoto], tuple[str, ...]]:
    """All labelled photographs in the order of the shards, and notes on what is left out."""
    tars = [path for path in list_folder(root).others if path.suffix.lower() == ".tar"]
    if not tars:
        raise DataError(f"{root} holds no shards (.tar files); check data.root, or write some: mpfgvc data pack")
    found: list[LabelledPhoto] = []
    unlabelled: list[str] = []
    for tar in tars:
        try:
            held = members(tar)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise DataError(f"cannot read the shard {tar}: {reason}") from None
        for image, sidecars in _paired(tar, held):
            name, split = _label(tar, held, sidecars)
            if name is None:
                unlabelled.append(f"{tar.name}!{image}")
            else:
                split = split or _split_of(tar)
                found.append(LabelledPhoto(inside(tar, image), name, split, held[image]))
    if not found:
        raise DataError(f"{root}: no photograph has a label; the shards must hold a .cls or .json for each")
    notes = (counted("photographs without a label, left out", unlabelled),) if unlabelled else ()
    return found, notes


def _paired(tar: Path, names: Mapping[str, Member]) -> Iterator[tuple[str, dict[str, str]]]:
    """Each photograph with its `.cls` and `.json` by suffix.

    Raises DataError where it cannot be told which photograph a label is about.
    """
    images = [name for name in names if _suffix(name) in IMAGE_SUFFIXES]
    labels = {name: _suffix(name) for name in names if _suffix(name) in (".cls", ".json")}
    exact: dict[str, dict[str, str]] = {}
    loose: dict[str, dict[str, str]] = {}
    several = set()
    for name, suffix in labels.items():
        exact.setdefault(_stem(name), {})[suffix] = name
        if suffix in loose.setdefault(_key(name), {}):
            several.add(_key(name))
        loose[_key(name)][suffix] = name
    stems, keys = Counter(map(_stem, images)), Counter(map(_key, images))
    named = {_key(name) for name in images if _stem(name) in exact}
    for name in images:
        if _stem(name) in exact:
            if stems[_stem(name)] > 1:
                _refuse(tar, f"it holds {stems[_stem(name)]} photographs of the name {_stem(name)}")
            yield name, exact[_stem(name)]
        elif _key(name) in named or _key(name) not in loose:
            yield name, {}  # a depth map beside its photograph, or no label at all
        elif keys[_key(name)] > 1 or _key(name) in several:
            _refuse(tar, f"it does not say which label is that of {name}; name both alike")
        else:
            yield name, loose[_key(name)]


def _suffix(name: str) -> str:
    return Path(name).suffix.lower()


def _stem(name: str) -> str:
    """The name up to its last dot."""
    return name[: len(name) - len(Path(name).suffix)]


def _key(name: str) -> str:
    """The name up to the first dot behind its folder."""
    folder, slash, file = name.rpartition("/")
    return folder + slash + file.partition(".")[0]


def _label(tar: Path, held: Mapping[str, Member], sidecars: Mapping[str, str]) -> tuple[str | None, Split | None]:
    """The class of a photograph as text, and its split if one is named."""
    texts = {suffix: _text(tar, name, held[name]) for suffix, name in sidecars.items()}
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


def _refuse(file: Path, rule: str) -> NoReturn:
    what = "write the shard again" if file.suffix == ".tar" else "restore the file or pack again"
    raise DataError(f"{file}: {rule}; {what}")
