"""The photographs of a run, as its folder keeps them: `photographs.json`.

A dataset may grow or shrink after a training, and a split that is drawn again would then put photographs
that were trained on into the test. So the run stores its split: for each photograph the path below the
dataset's root, the class, the split, and a short digest of the file. Of packed shards it stores the index
with the splits of the run (listed_shards.py), which is smaller and is mapped, not read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Self, get_args

from mpfgvc.data.headers import DIGEST_DIGITS, photo_digest
from mpfgvc.data.listed_shards import ListedPhoto, ListedShards
from mpfgvc.data.samples import PhotoSet, Sample, Split
from mpfgvc.data.shard_table import ShardTable
from mpfgvc.data.tars import is_packed
from mpfgvc.errors import CheckpointError
from mpfgvc.files import check_digest, write_with_digest
from mpfgvc.processes import core_count

FORMAT = 1
COLUMNS = ("path", "label", "split", "digest")
_HEAD, _ROWS = {"format", "dataset", "supercategory", "classes"}, {"columns", "photographs"}
_SHARDS = {"shards"}


@dataclass(frozen=True, kw_only=True)
class PhotoList:
    """All photographs of a run in the order of its dataset; class names in the order of the labels."""

    dataset: str
    supercategory: str | None
    classes: tuple[str, ...]
    photographs: Sequence[ListedPhoto]

    @classmethod
    def of(cls, photos: PhotoSet, *, root: Path | None, digests: Mapping[Path, str]) -> Self:
        """The list of a dataset that is at `root` (None: its pictures are drawn)."""
        return cls(
            dataset=photos.name,
            supercategory=photos.supercategory,
            classes=photos.classes,
            photographs=ListedShards(photos.samples)
            if isinstance(photos.samples, ShardTable)
            else tuple(_listed(sample, root, digests) for sample in photos.samples),
        )

    def subset(self, split: Split) -> Sequence[ListedPhoto]:
        """The photographs of one split, in their order."""
        if isinstance(self.photographs, ListedShards):
            return self.photographs.subset(split)
        return tuple(photo for photo in self.photographs if photo.split == split)

    def learned(self) -> Iterator[ListedPhoto]:
        """The photographs that the run learns from or chooses by: all but those of the test."""
        return (photo for photo in self.photographs if photo.split != "test")

    def fingerprint(self) -> str:
        """SHA-256 of all photographs with their classes, splits and digests."""
        digest = hashlib.sha256()
        if isinstance(self.photographs, ListedShards):
            for rows in self.photographs.table.contents():
                digest.update(rows.tobytes())
        else:
            for each in self.photographs:
                row = f"{each.path}:{each.label}:{each.split}:{each.digest}"
                digest.update(row.encode(errors="surrogateescape") + b"\0")
        return digest.hexdigest()

    def to_json(self) -> str:
        """JSON in ASCII, a line for each photograph; file names that are not UTF-8 keep their bytes."""
        rows = [[photo.path, photo.label, photo.split, photo.digest] for photo in self.photographs]
        head = self._head() | {"columns": COLUMNS}
        lines = [f"{json.dumps(key)}: {json.dumps(value)}," for key, value in head.items()]
        body = ",\n".join(json.dumps(row) for row in rows)
        return "\n".join(["{", *lines, '"photographs": [', body, "]}"]) + "\n"

    @classmethod
    def from_json(cls, text: str, *, where: Path) -> Self:
        """The list that `to_json` wrote. Raises CheckpointError for anything else, naming `where`."""
        document = _parse(text, where)
        for name, kinds in (("dataset", (str,)), ("supercategory", (str, type(None)))):
            if not isinstance(document[name], kinds):
                _refuse(where, f"{name} must be text, got {document[name]!r:.40}")
        classes = _classes(document["classes"], where)
        return cls(
            dataset=document["dataset"],
            supercategory=document["supercategory"],
            classes=classes,
            photographs=_shards(document, where) if "shards" in document else _photos(document, where),
        )

    def save(self, path: Path) -> None:
        """Write the list and its digest. Raises OutputError."""
        if isinstance(self.photographs, ListedShards):
            document = self._head() | {"shards": self.photographs.save(path)}
            text = json.dumps(document, indent=1) + "\n"
        else:
            text = self.to_json()
        write_with_digest(path, text.encode("ascii"))

    @classmethod
    def load(cls, path: Path) -> Self | None:
        """The list of a run; None if an older version wrote it. Raises CheckpointError if it is damaged."""
        if not path.exists():
            return None
        check_digest(path)
        try:
            text = path.read_text(encoding="ascii")
        except OSError as error:
            raise CheckpointError(f"cannot read {path}: {error.strerror}; restore the file") from None
        except UnicodeDecodeError:
            _refuse(path, "it must be JSON in ASCII")
        return cls.from_json(text, where=path)

    def _head(self) -> dict[str, object]:
        return {
            "format": FORMAT,
            "dataset": self.dataset,
            "supercategory": self.supercategory,
            "classes": self.classes,
        }


def photo_digests(paths: Iterable[Path]) -> dict[Path, str]:
    """The digest of each file, read in parallel; empty for one that cannot be read."""
    wanted = sorted(paths)  # one tar file after the other
    with ThreadPoolExecutor(max_workers=min(32, 4 * core_count())) as pool:
        return dict(zip(wanted, pool.map(_digest, wanted), strict=True))


def _digest(path: Path) -> str:
    try:
        wait = not is_packed(path) and not path.is_file()  # to open a pipe would wait forever
        return "" if wait else photo_digest(path)
    except (OSError, ValueError):
        return ""


def relative_path(path: Path, root: Path | None) -> str:
    """The path below `root` with forward slashes; the whole path of a file that is elsewhere."""
    if root is not None and path.is_relative_to(root):
        path = path.relative_to(root)
    return path.as_posix()


def _listed(sample: Sample, root: Path | None, digests: Mapping[Path, str]) -> ListedPhoto:
    path = relative_path(sample.path, root)
    return ListedPhoto(path=path, label=sample.label, split=sample.split, digest=digests.get(sample.path, ""))


def _parse(text: str, where: Path) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        _refuse(where, "it must be JSON")
    if not isinstance(document, dict) or document.keys() not in (_HEAD | _ROWS, _HEAD | _SHARDS):
        _refuse(where, f"it must hold {', '.join(sorted(_HEAD | _ROWS))}")
    is_known = document["format"] == FORMAT and document.get("columns", list(COLUMNS)) == list(COLUMNS)
    if not is_known:
        _refuse(where, f"this version reads format {FORMAT}, got {document['format']!r:.40}")
    return dict(document)


def _photos(document: Mapping[str, Any], where: Path) -> tuple[ListedPhoto, ...]:
    rows, classes = document["photographs"], len(document["classes"])
    if not isinstance(rows, list) or not rows:
        _refuse(where, "photographs must be a list with at least one photograph")
    photographs = tuple(_photo(row, number, classes, where) for number, row in enumerate(rows, 1))
    if len({photo.path for photo in photographs}) < len(photographs):
        _refuse(where, "each photograph must be listed once")
    return photographs


def _shards(document: Mapping[str, Any], where: Path) -> ListedShards:
    try:
        return ListedShards.load(document, where)
    except (TypeError, ValueError, KeyError):
        _refuse(where, "shards is not what a training writes")


def _classes(names: object, where: Path) -> tuple[str, ...]:
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        _refuse(where, "classes must be a list of names")
    if len(set(names)) < len(names):
        _refuse(where, "class names must be unique")
    return tuple(names)


def _photo(row: object, number: int, classes: int, where: Path) -> ListedPhoto:
    match row:
        case [str(path), int(label), str(split), str(digest)] if (
            path
            and "\0" not in path
            and not isinstance(label, bool)
            and 0 <= label < classes
            and split in get_args(Split)
            and _is_digest(digest)
        ):
            return ListedPhoto(path=path, label=label, split=split, digest=digest)  # type: ignore[arg-type]
    _refuse(where, f"photograph {number} must be [path, label, split, digest], got {row!r:.80}")


def _is_digest(text: str) -> bool:
    return not text or (len(text) == DIGEST_DIGITS and not text.strip("0123456789abcdef"))


def _refuse(where: Path, rule: str) -> NoReturn:
    raise CheckpointError(f"{where} is not a list of photographs: {rule}; restore the file")
