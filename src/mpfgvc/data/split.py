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

from mpfgvc.data.samples import Sample, Split, in_short


def hold_out(
    samples: Sequence[Sample], share: float, seed: int, split: Split = "validation"
) -> tuple[Sample, ...]:
    """All samples in their order, with a share of the training ones moved to `split`.

    A class with `count` training photographs gives `round(share * count)`: at
    least 1 if it has 2, and never all of them. A share of 0 moves nothing.
    """
    if share == 0:
        return tuple(samples)
    chosen = _choose(samples, share, seed)
    return tuple(replace(sample, split=split) if sample.path in chosen else sample for sample in samples)


def with_test(
    samples: Sequence[Sample], classes: Sequence[str], share: float, seed: int
) -> tuple[tuple[Sample, ...], tuple[str, ...]]:
    """The samples with a test split, made if they name no split but training, and notes on that."""
    splits = {sample.split for sample in samples}
    if "test" in splits or share == 0:
        return tuple(samples), ()
    if splits != {"train"}:
        return tuple(samples), ("there is no test split: the dataset names only a validation split",)
    divided = hold_out(samples, share, seed, "test")
    count = sum(sample.split == "test" for sample in divided)
    made = f"no split found: {count} of {len(divided)} photographs held out for the test"
    return divided, (made, *single_notes(samples, classes, "test"))


def single_notes(samples: Sequence[Sample], classes: Sequence[str], split: Split) -> tuple[str, ...]:
    """A note, if there are any, about classes with too few training photographs to hold one out."""
    single = [classes[label] for label, members in sorted(_by_label(samples).items()) if len(members) == 1]
    if not single:
        return ()
    lead = f"{len(single)} classes with one photograph, kept for training, have none for {split}"
    return (f"{lead}: {in_short(single)}",)


def _choose(samples: Sequence[Sample], share: float, seed: int) -> set[Path]:
    """The paths to hold out: in each class, those whose hashes are the smallest."""
    start = len(_common_folder(samples))
    chosen: set[Path] = set()
    for members in _by_label(samples).values():
        count = min(max(1, round(share * len(members))), len(members) - 1)
        ranked = sorted(members, key=lambda sample: _rank(sample.path, start, seed))
        chosen.update(sample.path for sample in ranked[:count])
    return chosen


def _by_label(samples: Sequence[Sample]) -> dict[int, list[Sample]]:
    members: dict[int, list[Sample]] = defaultdict(list)
    for sample in samples:
        if sample.split == "train":
            members[sample.label].append(sample)
    return members


def _common_folder(samples: Sequence[Sample]) -> str:
    """The deepest folder that holds all samples; empty if there is none."""
    try:
        return os.path.commonpath({sample.path.parent for sample in samples})
    except ValueError:  # no samples, or a manifest with relative and absolute paths
        return ""


def _rank(path: Path, start: int, seed: int) -> bytes:
    name = path.as_posix()[start:].lstrip("/")
    return hashlib.sha256(f"{seed}:{name}".encode(errors="surrogateescape")).digest()
