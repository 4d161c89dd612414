"""What stands beside packed shards: `shards.json` says what they are, `shards.idx` where each photograph is.

The index holds `ROW` for each photograph, 26 bytes, in the order of the dataset. It is mapped into memory,
not read into it: 100 million photographs are 2.6 GB on the disk, and only the pages in use are in memory.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NoReturn, get_args

import numpy as np
from numpy.typing import NDArray

from mpfgvc.data.decoding.packed import Member, Packed, inside
from mpfgvc.data.samples import Sample, Split
from mpfgvc.errors import DataError
from mpfgvc.storage.whole_files import write_bytes, write_text

FORMAT = 1
LAYOUT, INDEX, PLAN = "shards.json", "shards.idx", "shards.plan.json"
SPLITS: tuple[Split, ...] = get_args(Split)
ROW = np.dtype(
    [
        ("offset", "<u8"),  # of the first byte of the photograph in its tar file
        ("size", "<u4"),
        ("shard", "<u4"),
        ("number", "<u4"),  # the name of the member
        ("label", "<u4"),
        ("split", "u1"),
        ("suffix", "u1"),
    ]
)
"""What the index holds for a photograph."""


@dataclass(frozen=True, kw_only=True)
class ShardSample(Sample):
    """A photograph of a dataset inside a tar file, and where it is in there."""

    member: Member

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

    KEYS: ClassVar[frozenset[str]] = frozenset(
        {"format", "name", "classes", "supercategory", "size", "suffixes", "shards", "index_digest"}
    )

    @property
    def photographs(self) -> int:
        """How many there are in all shards."""
        return sum(shard.photographs for shard in self.shards)

    def to_json(self) -> str:
        """The content of `shards.json`."""
        shards = [[shard.name, shard.bytes, shard.photographs] for shard in self.shards]
        document = {
            "format": FORMAT,
            "name": self.name,
            "supercategory": self.supercategory,
            "size": self.size,
            "suffixes": self.suffixes,
            "index_digest": self.index_digest,
            "classes": self.classes,
            "shards": shards,
        }
        return json.dumps(document, indent=1) + "\n"

    @classmethod
    def read(cls, file: Path) -> Layout:
        """The layout in a `shards.json`. Raises DataError for anything else."""
        try:
            document = json.loads(file.read_bytes())
        except OSError as error:
            raise DataError(f"cannot read {file}: {error.strerror}; check its permissions") from None
        except (ValueError, RecursionError):
            _refuse(file, "it must be JSON")
        if not isinstance(document, dict) or document.get("format") != FORMAT or document.keys() != cls.KEYS:
            _refuse(file, f"this version reads format {FORMAT}, with {', '.join(sorted(cls.KEYS))}")
        try:
            return cls._of(document)
        except (TypeError, ValueError, KeyError):
            _refuse(file, "its values are not those that mpfgvc data pack writes")

    @classmethod
    def _of(cls, document: Mapping[str, Any]) -> Layout:
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


def open_index(folder: Path, layout: Layout) -> NDArray[np.void]:
    """The rows of the index, mapped into memory. Raises DataError if they are not those of the layout."""
    file = folder / INDEX
    try:
        rows: NDArray[np.void] = np.memmap(file, dtype=ROW, mode="r")
    except FileNotFoundError:
        raise DataError(f"{file} does not exist; copy it beside {LAYOUT}") from None
    except (OSError, ValueError):
        _refuse(file, f"it must hold {ROW.itemsize} bytes for each photograph")
    with file.open("rb") as content:  # not through the map, which would then be in memory
        digest = hashlib.file_digest(content, _new_digest).hexdigest()
    if len(rows) != layout.photographs or digest != layout.index_digest:
        _refuse(file, f"it is another than {LAYOUT} says")
    return rows


def samples_of(folder: Path, layout: Layout, rows: NDArray[np.void]) -> Iterator[ShardSample]:
    """The photographs of an index, in its order. Raises DataError for a row that names what is not there."""
    tars = [folder / shard.name for shard in layout.shards]
    if len(rows) and (rows["label"].max() >= len(layout.classes) or rows["split"].max() >= len(SPLITS)):
        _refuse(folder / INDEX, "it names classes or splits that there are not")
    if len(rows) and (rows["shard"].max() >= len(tars) or rows["suffix"].max() >= len(layout.suffixes)):
        _refuse(folder / INDEX, "it names shards or suffixes that there are not")
    for offset, size, shard, number, label, split, suffix in rows.tolist():
        yield ShardSample(
            path=inside(tars[shard], member_name(number, layout.suffixes[suffix])),
            label=label,
            split=SPLITS[split],
            member=Member(offset, size),
        )


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
