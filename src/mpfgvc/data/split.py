"""Hold photographs out of the training set: seeded, class by class.

Which ones depends on the seed and on each photograph's path below the folder
that all have in common, so neither the order of a listing nor the place of
the dataset on a disk changes the choice, and neither does the platform.
"""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mpfgvc.data.samples import Sample, SampleTable, Split, chunks, class_counts, in_short


def hold_out(
    samples: Sequence[Sample], share: float, seed: int, split: Split = "validation"
) -> Sequence[Sample]:
    """All samples in their order, with a share of the training ones moved to `split`.

    A class with `count` training photographs gives `round(share * count)`: at
    least 1 if it has 2, and never all of them. A share of 0 moves nothing.
    """
    if share == 0:
        return samples
    if isinstance(samples, SampleTable):
        return _hold_out_of_table(samples, share, seed, split)
    chosen = _choose(samples, share, seed)
    return tuple(replace(sample, split=split) if sample.path in chosen else sample for sample in samples)


def with_test(
    samples: Sequence[Sample], classes: Sequence[str], share: float, seed: int
) -> tuple[Sequence[Sample], tuple[str, ...]]:
    """The samples with a test split, made if they name no split but training, and notes on that."""
    splits = {sample.split for sample in samples}
    if "test" in splits or share == 0:
        return samples, ()
    if splits != {"train"}:
        return samples, ("there is no test split: the dataset names only a validation split",)
    divided = hold_out(samples, share, seed, "test")
    count = sum(sample.split == "test" for sample in divided)
    made = f"no split found: {count} of {len(divided)} photographs held out for the test"
    return divided, (made, *single_notes(samples, classes, "test"))


def single_notes(samples: Sequence[Sample], classes: Sequence[str], split: Split) -> tuple[str, ...]:
    """A note, if there are any, about classes with too few training photographs to hold one out."""
    counts = class_counts(_trained(samples), len(classes))
    single = [name for name, count in zip(classes, counts, strict=True) if count == 1]
    if not single:
        return ()
    lead = f"{len(single)} classes with one photograph, kept for training, have none for {split}"
    return (f"{lead}: {in_short(single)}",)


def _hold_out_of_table(table: SampleTable, share: float, seed: int, split: Split) -> SampleTable:
    """As `hold_out`, with a few numbers for each training photograph in memory while it is decided."""
    train = table.subset("train")
    labels, ranks = np.empty(len(train), np.int32), np.empty(len(train), np.uint64)
    for places in chunks(len(train)):
        labels[places.start : places.stop] = train.labels_at(places)
        ranks[places.start : places.stop] = [
            int.from_bytes(_rank(name, seed)[:8], "big") for name in train.names_at(places)
        ]
    by_class, start = np.lexsort((ranks, labels)), 0
    chosen = []
    for size in np.bincount(labels).tolist():
        chosen.append(by_class[start : start + _count(share, size)] if size else by_class[:0])
        start += size
    return train.moved(np.concatenate(chosen), split)


def _choose(samples: Sequence[Sample], share: float, seed: int) -> set[Path]:
    """The paths to hold out: in each class, those whose hashes are the smallest."""
    start = len(_common_folder(samples))
    chosen: set[Path] = set()
    for members in _by_label(samples).values():
        ranked = sorted(members, key=lambda sample: _rank(sample.path.as_posix()[start:].lstrip("/"), seed))
        chosen.update(sample.path for sample in ranked[: _count(share, len(members))])
    return chosen


def _count(share: float, members: int) -> int:
    """How many of the members of a class are held out."""
    return min(max(1, round(share * members)), members - 1)


def _by_label(samples: Sequence[Sample]) -> dict[int, list[Sample]]:
    members: dict[int, list[Sample]] = defaultdict(list)
    for sample in _trained(samples):
        members[sample.label].append(sample)
    return members


def _trained(samples: Sequence[Sample]) -> Sequence[Sample]:
    if isinstance(samples, SampleTable):
        return samples.subset("train")
    return tuple(sample for sample in samples if sample.split == "train")


def _common_folder(samples: Sequence[Sample]) -> str:
    """The deepest folder that holds all samples; empty if there is none."""
    try:
        return os.path.commonpath({sample.path.parent for sample in samples})
    except ValueError:  # no samples, or a manifest with relative and absolute paths
        return ""


def _rank(name: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{name}".encode(errors="surrogateescape")).digest()
