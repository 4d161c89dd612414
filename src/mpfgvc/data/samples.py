"""What a dataset is, whatever its layout on disk: samples, class names, splits.

The rules that hold for every dataset are checked here, once, when a `PhotoSet`
is made: class names are unique and look different, and every class has a photograph
to train on.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mpfgvc.data.images import read_image
from mpfgvc.data.names import refuse_lookalikes
from mpfgvc.data.remote import Remote
from mpfgvc.data.tars import Packed
from mpfgvc.data.taxonomy import Taxonomy
from mpfgvc.errors import DataError

Split = Literal["train", "validation", "test"]
Labels = NDArray[np.int64]

CHUNK = 4096
"""Samples of a table that are looked at together."""
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


@dataclass(frozen=True, kw_only=True)
class Photograph:
    """One photograph and where it is."""

    has_file: ClassVar[bool] = True
    """Whether there is a file at `path`; False for pictures that are drawn."""
    path: Path

    @property
    def source(self) -> Path | Packed | Remote:
        """What its bytes are read from."""
        return self.path

    def read(self, *, at_least: tuple[int, int] | None = None) -> Image.Image:
        """The photograph, RGB and upright; `at_least` as `read_image` takes it. Raises DataError."""
        return read_image(self.source, at_least=at_least)


@dataclass(frozen=True, kw_only=True)
class Sample(Photograph):
    """A photograph of a dataset, with its class (an index into the class names) and its split."""

    label: int
    split: Split

    @property
    def source(self) -> Path | Packed:
        """What its bytes are read from; a dataset has no photographs at URLs of their own."""
        return self.path


class SampleTable(Sequence[Sample], ABC):
    """Samples that are not kept as objects: each is made from columns when it is asked for."""

    @abstractmethod
    def subset(self, split: Split) -> SampleTable:
        """The samples of one split, in their order."""

    @abstractmethod
    def moved(self, places: NDArray[np.int64], split: Split) -> SampleTable:
        """The samples of the whole dataset, those at `places` of this table in another split."""

    @abstractmethod
    def labels_at(self, places: Sequence[int]) -> Labels:
        """The labels of the samples at these places."""

    @abstractmethod
    def names_at(self, places: range) -> list[str]:
        """The paths of the samples at these places, below the folder that holds all of them."""


@dataclass(frozen=True, kw_only=True)
class LabelledPhoto(Photograph):
    """A photograph with the name of its class, and its split if one is named: not yet part of a dataset."""

    class_name: str
    split: Split | None = None


@dataclass(frozen=True, kw_only=True)
class PhotoSet:
    """A dataset. `notes` are lines for people, such as how a subset differs from the official counts."""

    name: str
    classes: tuple[str, ...]
    samples: Sequence[Sample]
    supercategory: str | None = None
    notes: tuple[str, ...] = ()
    taxonomy: Taxonomy | None = None
    """The tree above the classes, if there is one."""

    def __post_init__(self) -> None:
        name, count = max(Counter(self.classes).items(), key=lambda item: item[1], default=("", 0))
        if count > 1:
            raise DataError(
                f"{self.name}: class names must be unique, got {count} classes named {name!r}; rename them"
            )
        refuse_lookalikes(self.name, self.classes)
        if not self.samples:
            raise DataError(f"{self.name}: found no photographs; check data.root")
        _refuse_untrained(self)

    def subset(self, split: Split) -> Sequence[Sample]:
        """The samples of one split, in their order."""
        if isinstance(self.samples, SampleTable):
            return self.samples.subset(split)
        return tuple(sample for sample in self.samples if sample.split == split)


def labels_at(samples: Sequence[Sample], places: Sequence[int]) -> Labels:
    """The labels of the samples at some places, as an array."""
    if isinstance(samples, SampleTable):
        return samples.labels_at(places)
    return np.array([samples[place].label for place in places], dtype=np.int64)


def class_counts(samples: Sequence[Sample], classes: int) -> Labels:
    """How many of the samples each class has."""
    counts = np.zeros(classes, np.int64)
    for places in chunks(len(samples)):
        counts += np.bincount(labels_at(samples, places), minlength=classes)
    return counts


def chunks(count: int) -> Iterator[range]:
    """The places from 0 to `count`, CHUNK at a time."""
    return (range(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK))


def in_short(names: list[str], most: int = 3) -> str:
    """The first `most` names, separated by commas, with three dots if there are more."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def counted(what: str, names: Sequence[str], whole: int | None = None) -> str:
    """A line such as `photographs that are missing: 2 of 30 (a.jpg, b.jpg)`."""
    of = "" if whole is None else f" of {whole}"
    return f"{what}: {len(names)}{of} ({in_short(list(names))})"


def _refuse_untrained(photos: PhotoSet) -> None:
    counts = class_counts(photos.subset("train"), len(photos.classes))
    untrained = [name for name, count in zip(photos.classes, counts, strict=True) if count == 0]
    if untrained:
        raise DataError(
            f"{photos.name}: every class needs photographs for training, "
            f"{len(untrained)} of {len(photos.classes)} have none: {in_short(untrained)}; "
            "add some, or remove the class from the other splits"
        )
