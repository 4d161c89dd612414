"""What stands beside packed shards: `shards.json` says what they are, `shards.idx` where each photograph is.

The index holds `ROW` for each photograph, 42 bytes, in the order of the dataset. It is mapped into memory,
not read into it: 100 million photographs are 4.2 GB on the disk, and only the pages in use are in memory.
`ShardTable` (shard_table.py) makes the samples of a dataset from it, one by one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NoReturn, get_args

import numpy as np
from numpy.typing import NDArray

from mpfgvc.data.samples import Sample, Split, chunks
from mpfgvc.data.tars import Member, Packed
from mpfgvc.errors import DataError
from mpfgvc.files import write_bytes, write_text

FORMAT = 2
LAYOUT, INDEX, PLAN = "shards.json", "shards.idx", "shards.plan.json"
SPLITS: tuple[Split, ...] = get_args(Split)
_COLUMNS = [
    ("offset", "<u8"),  # of the first byte of the photograph in its tar file
    ("size", "<u4"),
    ("shard", "<u4"),
    ("number", "<u4"),  # the name of the member
    ("label", "<u4"),
    ("split", "u1"),
    ("suffix", "u1"),
]
ROWS = {1: np.dtype(_COLUMNS), FORMAT: np.dtype([*_COLUMNS, ("digest", "u1", 16)])}
"""What the index holds for a photograph, by its format; `digest` is that of `photo_digest`."""
ROW = ROWS[FORMAT]


@dataclass(frozen=True, kw_only=True)
class ShardSample(Sample):
    """A photograph of a dataset inside a tar file, and where it is in there."""

    member: Member
    digest: str = ""
    """What `photo_digest` gave when it was packed; empty if the index does not say."""

    @property
    def source(self) -> Packed:
        """What its bytes are read from."""
        return Packed(self.path, self.member)


@dataclass(frozen=True, kw_only=True)
class ShardFile:
    """A shard: its name, its bytes, and how many photographs it holds."""

    name: str
    bytes: int
    photographs: int


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What `shards.json` says. `size` is the shorter side of resized copies, None for whole files."""

    name: str
    classes: tuple[str, ...]
    supercategory: str | None
    size: int | None
    suffixes: tuple[str, ...]
    shards: tuple[ShardFile, ...]
    index_digest: str
    format: int = FORMAT

    KEYS: ClassVar[frozenset[str]] = frozenset(
        {"format", "name", "classes", "supercategory", "size", "suffixes", "shards", "index_digest"}
    )

    @property
    def photographs(self) -> int:
        """How many there are in all shards."""
        return sum(shard.photographs for shard in self.shards)

    def to_json(self) -> str:
        """The content of `shards.json`."""
        return json.dumps(self.to_dict(), indent=1) + "\n"

    def to_dict(self) -> dict[str, Any]:
        """The document of `shards.json`."""
        return {
            "format": self.format,
            "name": self.name,
            "supercategory": self.supercategory,
            "size": self.size,
            "suffixes": self.suffixes,
            "index_digest": self.index_digest,
            "classes": self.classes,
            "shards": [[shard.name, shard.bytes, shard.photographs] for shard in self.shards],
        }

    @classmethod
    def read(cls, file: Path) -> Layout:
        """The layout in a `shards.json`. Raises DataError for anything else."""
        try:
            document = json.loads(file.read_bytes())
        except OSError as error:
            raise DataError(f"cannot read {file}: {error.strerror}; check its permissions") from None
        except (ValueError, RecursionError):
            _refuse(file, "it must be JSON")
        is_layout = isinstance(document, dict) and document.keys() == cls.KEYS
        if not is_layout or document["format"] not in tuple(ROWS):
            _refuse(file, f"this version reads format 1 and {FORMAT}, with {', '.join(sorted(cls.KEYS))}")
        try:
            return cls.of(document)
        except (TypeError, ValueError, KeyError):
            _refuse(file, "its values are not those that mpfgvc data pack writes")

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Layout:
        """The layout in a document. Raises TypeError, ValueError or KeyError for one that is none."""
        shards = tuple(
            ShardFile(name=str(name), bytes=int(size), photographs=int(count))
            for name, size, count in document["shards"]
        )
        if any(Path(shard.name).name != shard.name for shard in shards):
            raise ValueError("a shard is beside its index")
        word, size = document["supercategory"], document["size"]
        return cls(
            name=str(document["name"]),
            classes=tuple(str(name) for name in document["classes"]),
            supercategory=None if word is None else str(word),
            size=None if size is None else int(size),
            suffixes=tuple(str(suffix) for suffix in document["suffixes"]),
            shards=shards,
            index_digest=str(document["index_digest"]),
            format=document["format"],
        )


def member_name(number: int, suffix: str) -> str:
    """What a photograph is called inside its shard."""
    return f"{number:09d}{suffix}"


def save_index(folder: Path, layout: Layout, rows: NDArray[np.void]) -> None:
    """Write the index, then the layout, which makes the folder a dataset. Raises OutputError."""
    write_bytes(folder / INDEX, rows.tobytes())
    write_text(folder / LAYOUT, layout.to_json())


def index_digest(rows: NDArray[np.void]) -> str:
    """A digest of the index, as `shards.json` keeps it."""
    digest = _new_digest()
    digest.update(np.ascontiguousarray(rows).data.cast("B"))
    return digest.hexdigest()


def map_index(file: Path, layout: Layout) -> NDArray[np.void]:
    """The rows of an index, mapped into memory. Raises DataError for a file of another size."""
    row = ROWS[layout.format]
    try:
        rows: NDArray[np.void] = np.memmap(file, dtype=row, mode="r")
    except FileNotFoundError:
        raise DataError(f"{file} does not exist; copy it beside {LAYOUT}") from None
    except (OSError, ValueError):
        _refuse(file, f"it must hold {row.itemsize} bytes for each photograph")
    if len(rows) != layout.photographs:
        _refuse(file, f"it is another than {LAYOUT} says")
    return rows


def check_index(file: Path, layout: Layout) -> None:
    """Raise DataError if an index is not that of the layout, or names what is not there."""
    refuse_unknown(file, layout)
    with file.open("rb") as content:  # not through the map, which would then be in memory
        digest = hashlib.file_digest(content, _new_digest).hexdigest()
    if digest != layout.index_digest:
        _refuse(file, f"it is another than {LAYOUT} says")


def refuse_unknown(file: Path, layout: Layout) -> None:
    """Raise DataError for an index of another length than its layout, or that names what is not there."""
    rows = map_index(file, layout)
    known = {
        "label": len(layout.classes),
        "split": len(SPLITS),
        "shard": len(layout.shards),
        "suffix": len(layout.suffixes),
    }
    for part in chunks(len(rows)):
        chunk = rows[part.start : part.stop]
        for column, count in known.items():
            if chunk[column].max() >= count:
                _refuse(file, f"it names a {column} that there is not")


def refuse_damaged(folder: Path, shards: Sequence[ShardFile]) -> None:
    """Raise DataError for a shard that is missing or has another size than when it was packed."""
    for shard in shards:
        file = folder / shard.name
        try:
            size = file.stat().st_size
        except FileNotFoundError:
            raise DataError(f"the shard {file} does not exist; copy it beside {LAYOUT}") from None
        except OSError as error:
            raise DataError(f"cannot read the shard {file}: {error.strerror}") from None
        if size != shard.bytes:
            rule = f"must have {shard.bytes} bytes, got {size}"
            raise DataError(f"the shard {file} {rule}; copy it again")


def _new_digest() -> hashlib.blake2b:
    return hashlib.blake2b(digest_size=16)


def _refuse(file: Path, rule: str) -> NoReturn:
    raise DataError(f"{file} is not what mpfgvc data pack wrote: {rule}; restore the file or pack again")
