"""The photographs of a run, as its folder keeps them: `photographs.json`.

A dataset may grow or shrink after a training, and a split that is drawn again would then put photographs
that were trained on into the test. So the run stores its split: for each photograph the path below the
dataset's root, the class, the split, and a short digest of the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Self, get_args

from mpfgvc.data.decoding.packed import is_packed
from mpfgvc.data.headers import DIGEST_DIGITS, photo_digest
from mpfgvc.data.samples import PhotoSet, Sample, Split
from mpfgvc.errors import CheckpointError
from mpfgvc.launcher import core_count
from mpfgvc.storage.digests import check_digest, write_with_digest

FORMAT = 1
COLUMNS = ("path", "label", "split", "digest")
_KEYS = {"format", "dataset", "supercategory", "classes", "columns", "photographs"}


@dataclass(frozen=True, kw_only=True)
class ListedPhoto:
    """One photograph. `path` is posix and starts from the dataset's root, unless the file is elsewhere.

    `digest` is that of `photo_digest`; empty if it is unknown, or if the picture is drawn and has no file.
    """

    path: str
    label: int
    split: Split
    digest: str = ""

    def at(self, root: Path | None) -> Path:
        """Where the photograph is if the dataset is at `root`."""
        return Path(self.path) if root is None else root / self.path


@dataclass(frozen=True, kw_only=True)
class PhotoList:
    """All photographs of a run in the order of its dataset; class names in the order of the labels."""

    dataset: str
    supercategory: str | None
    classes: tuple[str, ...]
    photographs: tuple[ListedPhoto, ...]

    @classmethod
    def of(cls, photos: PhotoSet, *, root: Path | None, digests: Mapping[Path, str]) -> Self:
        """The list of a dataset that is at `root` (None: its pictures are drawn)."""
        return cls(
            dataset=photos.name,
            supercategory=photos.supercategory,
            classes=photos.classes,
            photographs=tuple(_listed(sample, root, digests) for sample in photos.samples),
        )

    def subset(self, split: Split) -> tuple[ListedPhoto, ...]:
        """The photographs of one split, in their order."""
        return tuple(photo for photo in self.photographs if photo.split == split)

    def to_json(self) -> str:
        """JSON in ASCII, a line for each photograph; file names that are not UTF-8 keep their bytes."""
        rows = [[photo.path, photo.label, photo.split, photo.digest] for photo in self.photographs]
        head = {
            "format": FORMAT,
            "dataset": self.dataset,
            "supercategory": self.supercategory,
            "classes": self.classes,
            "columns": COLUMNS,
        }
        lines = [f"{json.dumps(key)}: {json.dumps(value)}," for key, value in head.items()]
        body = ",\n".join(json.dumps(row) for row in rows)
        return "\n".join(["{", *lines, '"photographs": [', body, "]}"]) + "\n"

    @classmethod
    def from_json(cls, text: str, *, where: Path) -> Self:
        """The list that `to_json` wrote. Raises CheckpointError for anything else, naming `where`."""
        document = _parse(text, where)
        classes = _classes(document["classes"], where)
        rows = document["photographs"]
        if not isinstance(rows, list) or not rows:
            _refuse(where, "photographs must be a list with at least one photograph")
        photographs = tuple(_photo(row, number, len(classes), where) for number, row in enumerate(rows, 1))
        if len({photo.path for photo in photographs}) < len(photographs):
            _refuse(where, "each photograph must be listed once")
        for name, kinds in (("dataset", (str,)), ("supercategory", (str, type(None)))):
            if not isinstance(document[name], kinds):
                _refuse(where, f"{name} must be text, got {document[name]!r:.40}")
        return cls(
            dataset=document["dataset"],
            supercategory=document["supercategory"],
            classes=classes,
            photographs=photographs,
        )

    def save(self, path: Path) -> None:
        """Write the list and its digest. Raises OutputError."""
        write_with_digest(path, self.to_json().encode("ascii"))

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
    if not isinstance(document, dict) or document.keys() != _KEYS:
        _refuse(where, f"it must hold {', '.join(sorted(_KEYS))}")
    if document["format"] != FORMAT or document["columns"] != list(COLUMNS):
        _refuse(where, f"this version reads format {FORMAT}, got {document['format']!r:.40}")
    return dict(document)


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
