"""What a dataset is, whatever its layout on disk: photographs in columns, class names, splits.

The rules that hold for every dataset are checked here, once, when a `PhotoSet`
is made: class names are unique and look different, and every class has a photograph
to train on.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple, Self, get_args, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from mpfgvc.data.images import read_image
from mpfgvc.data.names import refuse_lookalikes
from mpfgvc.errors import DataError

if TYPE_CHECKING:
    from mpfgvc.data.taxonomy import Taxonomy

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
SPLIT_NAMES: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "eval": "validation",
    "evaluation": "validation",
    "test": "test",
    "testing": "test",
}
"""What people call the splits, in folder names and manifests, and what they are called here."""
Integers = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Photograph:
    """One photograph and where it is."""

    has_file: ClassVar[bool] = True
    """Whether there is a file at `path`; False for pictures that are drawn."""
    path: Path

    def read(self, *, at_least: tuple[int, int] | None = None) -> Image.Image:
        """The photograph, RGB and upright; `at_least` as `read_image` takes it. Raises DataError."""
        return read_image(self.path, at_least=at_least)


@dataclass(frozen=True, kw_only=True)
class Sample(Photograph):
    """A photograph of a dataset, with its class (an index into the class names) and its split."""

    label: int
    split: Split
    digest: str = ""
    """What `photo_digest` gives; empty where it is not known."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Samples(Sequence[Sample]):
    """Photographs of a dataset in columns, about 40 bytes each and its path.

    An index gives a `Sample`, a slice gives `Samples`.
    """

    root: Path | None
    """What the paths start from; None for paths that are whole."""
    paths: NDArray[np.object_]
    """Text with forward slashes: below `root`, or whole where the file is elsewhere."""
    labels: Integers
    """Indices into the class names."""
    splits: NDArray[np.int8]
    """Indices into SPLITS."""
    digests: NDArray[np.bytes_]
    """32 hexadecimal digits of `photo_digest`, empty where they are not known."""

    @classmethod
    def of(cls, root: Path | None, rows: Iterable[tuple[str, int, Split]]) -> Self:
        """Photographs from rows of path, label and split."""
        columns = list(rows)
        return cls(
            root=root,
            paths=np.array([Path(path).as_posix() for path, _, _ in columns], object),
            labels=np.array([label for _, label, _ in columns], np.int64),
            splits=np.array([SPLITS.index(split) for _, _, split in columns], np.int8),
            digests=np.zeros(len(columns), "S32"),
        )

    def __len__(self) -> int:
        return len(self.paths)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> Self: ...
    def __getitem__(self, index: int | slice) -> Sample | Self:
        return self.take(np.arange(len(self))[index]) if isinstance(index, slice) else self.sample(index)

    def sample(self, index: int) -> Sample:
        """One photograph. Raises IndexError."""
        return Sample(
            path=self.path(index),
            label=int(self.labels[index]),
            split=SPLITS[self.splits[index]],
            digest=self.digests[index].decode(),
        )

    def path(self, index: int) -> Path:
        """The whole path of one photograph."""
        return Path(self.root or "", self.paths[index])

    def take(self, indices: ArrayLike) -> Self:
        """The photographs at some indices, or where a mask is true."""
        chosen = np.asarray(indices)
        chosen = chosen if chosen.dtype == bool else chosen.astype(np.intp)
        return replace(
            self,
            paths=self.paths[chosen],
            labels=self.labels[chosen],
            splits=self.splits[chosen],
            digests=self.digests[chosen],
        )

    def subset(self, split: Split) -> Self:
        """The photographs of one split, in their order."""
        return self.take(self.splits == SPLITS.index(split))

    def learned(self) -> Self:
        """The photographs that a training learns from or chooses by: all but those of the test."""
        return self.take(self.splits != SPLITS.index("test"))

    def counts(self, classes: int) -> Integers:
        """How many photographs each class has."""
        return np.bincount(self.labels, minlength=classes)

    def fingerprint(self) -> str:
        """SHA-256 of all photographs with their labels, splits and digests."""
        digest = hashlib.sha256()
        for path, label, split, content in zip(self.paths, self.labels, self.splits, self.digests, strict=True):
            row = f"{path}:{label}:{SPLITS[split]}:{content.decode()}"
            digest.update(row.encode(errors="surrogateescape") + b"\0")
        return digest.hexdigest()


class LabelledPhoto(NamedTuple):
    """A photograph with the name of its class, and its split if one is named: not yet part of a dataset."""

    path: Path
    class_name: str
    split: Split | None = None


@dataclass(frozen=True, kw_only=True)
class PhotoSet:
    """A dataset. `notes` are lines for people, such as how a subset differs from the official counts."""

    name: str
    classes: tuple[str, ...]
    samples: Samples
    supercategory: str | None = None
    notes: tuple[str, ...] = ()
    taxonomy: Taxonomy | None = None
    """The tree above the classes, if there is one."""

    def __post_init__(self) -> None:
        name, count = max(Counter(self.classes).items(), key=lambda item: item[1], default=("", 0))
        if count > 1:
            raise DataError(f"{self.name}: class names must be unique, got {count} classes named {name!r}; rename them")
        refuse_lookalikes(self.name, self.classes)
        if not self.samples:
            raise DataError(f"{self.name}: found no photographs; check data.root")
        counts = self.subset("train").counts(len(self.classes))
        untrained = [name for name, count in zip(self.classes, counts, strict=True) if count == 0]
        if untrained:
            raise DataError(
                f"{self.name}: every class needs photographs for training, "
                f"{len(untrained)} of {len(self.classes)} have none: {in_short(untrained)}; "
                "add some, or remove the class from the other splits"
            )

    def subset(self, split: Split) -> Samples:
        """The samples of one split, in their order."""
        return self.samples.subset(split)


def relative_path(path: Path, root: Path | None) -> str:
    """The path below `root` with forward slashes; the whole path of a file that is elsewhere."""
    if root is not None and path.is_relative_to(root):
        path = path.relative_to(root)
    return path.as_posix()


def in_short(names: Sequence[str | Path]) -> str:
    """The first three names, separated by commas, with three dots if there are more."""
    return ", ".join(map(str, names[:3])) + (", ..." if len(names) > 3 else "")


def counted(what: str, names: Sequence[str], whole: int | None = None) -> str:
    """A line such as `photographs that are missing: 2 of 30 (a.jpg, b.jpg)`."""
    of = "" if whole is None else f" of {whole}"
    return f"{what}: {len(names)}{of} ({in_short(names)})"
