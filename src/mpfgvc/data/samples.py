"""What a dataset is, whatever its layout on disk: samples, class names, splits.

The rules that hold for every dataset are checked here, once, when a `PhotoSet`
is made: class names are unique and look different, and every class has a photograph
to train on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from PIL import Image

from mpfgvc.data.class_names import refuse_lookalikes
from mpfgvc.data.decoding.packed import Packed
from mpfgvc.data.decoding.remote import Remote
from mpfgvc.data.images import read_image
from mpfgvc.data.taxonomy import Taxonomy
from mpfgvc.errors import DataError

Split = Literal["train", "validation", "test"]

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
    samples: tuple[Sample, ...]
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

    def subset(self, split: Split) -> tuple[Sample, ...]:
        """The samples of one split, in their order."""
        return tuple(sample for sample in self.samples if sample.split == split)


def in_short(names: list[str], most: int = 3) -> str:
    """The first `most` names, separated by commas, with three dots if there are more."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def counted(what: str, names: Sequence[str], whole: int | None = None) -> str:
    """A line such as `photographs that are missing: 2 of 30 (a.jpg, b.jpg)`."""
    of = "" if whole is None else f" of {whole}"
    return f"{what}: {len(names)}{of} ({in_short(list(names))})"


def _refuse_untrained(photos: PhotoSet) -> None:
    trained = {sample.label for sample in photos.samples if sample.split == "train"}
    untrained = [name for label, name in enumerate(photos.classes) if label not in trained]
    if untrained:
        raise DataError(
            f"{photos.name}: every class needs photographs for training, "
            f"{len(untrained)} of {len(photos.classes)} have none: {in_short(untrained)}; "
            "add some, or remove the class from the other splits"
        )
