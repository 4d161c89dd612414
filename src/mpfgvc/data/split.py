"""From labelled photographs to a dataset with splits: photographs are held out seeded, class by class.

Which ones depends on the seed and on each photograph's path below the folder
that all have in common, so neither the order of a listing nor the folder of
the dataset on a disk changes the choice, and neither does the platform.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import numpy as np

from mpfgvc.data.listing import natural_key
from mpfgvc.data.names import composed, refuse_lookalikes
from mpfgvc.data.samples import SPLITS, LabelledPhoto, PhotoSet, Samples, Split, relative_path


def hold_out(samples: Samples, share: float, seed: int, split: Split = "validation") -> Samples:
    """All samples in their order, with a share of the training ones moved to `split`.

    A class with `count` training photographs gives `round(share * count)`: at
    least 1 if it has 2, and never all of them. A share of 0 moves nothing.
    """
    if share == 0:
        return samples
    labels, ranks = samples.labels.tolist(), _ranks(samples, seed)
    train = np.flatnonzero(samples.splits == SPLITS.index("train")).tolist()
    splits = samples.splits.copy()
    for _, group in groupby(sorted(train, key=lambda row: (labels[row], ranks[row])), labels.__getitem__):
        members = list(group)
        count = min(max(1, round(share * len(members))), len(members) - 1)
        splits[members[:count]] = SPLITS.index(split)
    return replace(samples, splits=splits)


def photo_set(
    name: str,
    root: Path,
    photos: Sequence[LabelledPhoto],
    *,
    test_share: float,
    seed: int,
    classes: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> PhotoSet:
    """The dataset of labelled photographs; its classes are in natural order unless given.

    Where no split is named, a test set is held out, class by class.
    """
    written = list(classes) or list({photo.class_name for photo in photos})
    refuse_lookalikes(name, sorted(written, key=natural_key))
    names = list(map(composed, classes)) or sorted(map(composed, written), key=natural_key)
    labels = {name: label for label, name in enumerate(names)}
    rows = [(relative_path(photo.path, root), composed(photo.class_name), photo.split or "train") for photo in photos]
    samples = Samples.of(root, [(path, labels[class_name], split) for path, class_name, split in rows])
    divided, made = with_test(samples, test_share, seed)
    return PhotoSet(name=name, classes=tuple(names), samples=divided, notes=(*notes, *made))


def with_test(samples: Samples, share: float, seed: int) -> tuple[Samples, tuple[str, ...]]:
    """The samples with a test split, made if they name no split but training, and notes on that."""
    splits = {SPLITS[split] for split in np.unique(samples.splits)}
    if "test" in splits or share == 0:
        return samples, ()
    if splits != {"train"}:
        return samples, ("there is no test split: the dataset names only a validation split",)
    divided = hold_out(samples, share, seed, "test")
    count = len(divided.subset("test"))
    return divided, (f"no split found: {count} of {len(divided)} photographs held out for the test",)


def _ranks(samples: Samples, seed: int) -> list[bytes]:
    """A hash of the seed and of each path below the deepest folder that holds all of them."""
    paths = [samples.path(row) for row in range(len(samples))]
    try:
        start = len(os.path.commonpath({path.parent for path in paths}))
    except ValueError:  # no samples, or a manifest with relative and absolute paths
        start = 0
    names = [composed(path.as_posix()[start:].lstrip("/")) for path in paths]
    return [hashlib.sha256(f"{seed}:{name}".encode(errors="surrogateescape")).digest() for name in names]
