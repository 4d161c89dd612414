"""Duplicates of a dataset: files of equal content, and photographs that show the same picture.

Pairs are joined to groups. A group in more than one split leaks: what is tested on was learned from. In a
group with more than one class at least one label is wrong.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from mpfgvc.data.inspection import Thumbnails
from mpfgvc.data.near_duplicates import Match, near_duplicates
from mpfgvc.data.samples import PhotoSet, Sample
from mpfgvc.data.tars import open_bytes

Kind = Literal["same file", "copy", "cropped", "mirrored", "mirrored and cropped"]
FLAT_LEVELS = 3.0
"""Photographs with less contrast all look alike; only equal files among them count as duplicates."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two photographs of one picture. A `copy` may be recompressed, resized, brighter or darker."""

    paths: tuple[str, str]
    splits: tuple[str, str]
    classes: tuple[str, str]
    kind: Kind
    likeness: float
    """Correlation of their edges, at most 1; 1 for equal files."""

    @property
    def leaks(self) -> bool:
        """Whether the two are in different splits."""
        return self.splits[0] != self.splits[1]

    @property
    def disagrees(self) -> bool:
        """Whether the two have different labels."""
        return self.classes[0] != self.classes[1]


@dataclass(frozen=True, kw_only=True)
class Duplicate:
    """Photographs of one picture. Across splits they leak; in several classes one label is wrong."""

    paths: tuple[str, ...]
    splits: tuple[str, ...]
    classes: tuple[str, ...]
    kinds: tuple[Kind, ...]

    @property
    def leaks(self) -> bool:
        """Whether a photograph is both learned from and tested on."""
        return len(self.splits) > 1

    @property
    def disagrees(self) -> bool:
        """Whether one picture has several labels."""
        return len(self.classes) > 1

    @property
    def falsifies(self) -> bool:
        """Whether what is measured on the held-out splits is wrong for it."""
        return self.leaks or (self.disagrees and self.splits != ("train",))


def equal_files(samples: Sequence[Sample], digests: Mapping[Path, str], *, whole_files: bool) -> list[list[Sample]]:
    """Groups of files of equal content; by their digests alone without `whole_files`."""
    groups = _groups((sample, digests[sample.path]) for sample in samples if sample.path in digests)
    if not whole_files:
        return groups
    return [same for group in groups for same in _groups((each, _whole_digest(each.path)) for each in group)]


def all_pairs(photos: PhotoSet, equal: Iterable[Sequence[Sample]], thumbnails: Thumbnails | None) -> list[Pair]:
    """The pairs of equal files, each with the first of its group, then those that show the same picture."""
    same = [(group[0], each) for group in equal for each in group[1:]]
    pairs = [_pair(photos, *two, kind="same file", likeness=1.0) for two in same]
    if thumbnails is None:
        return pairs
    copies = {copy.path for _, copy in same}
    samples = {sample.path: sample for sample in photos.samples}
    chosen = [
        index
        for index, path in enumerate(thumbnails.paths)
        if path not in copies and thumbnails.contrast[index] >= FLAT_LEVELS
    ]
    matches = near_duplicates(thumbnails.pixels[np.array(chosen, dtype=np.intp)])
    for match in matches:
        first, second = (samples[thumbnails.paths[chosen[each]]] for each in (match.first, match.second))
        pairs.append(_pair(photos, first, second, kind=_kind(match), likeness=match.likeness))
    return pairs


def duplicates_of(photos: PhotoSet, pairs: Sequence[Pair]) -> tuple[Duplicate, ...]:
    """The pairs joined to groups, in the order of the dataset."""
    above: dict[str, str] = {}

    def root(path: str) -> str:
        while above.setdefault(path, path) != path:
            path = above[path]
        return path

    for pair in pairs:
        above[root(pair.paths[1])] = root(pair.paths[0])
    kinds: dict[str, set[Kind]] = defaultdict(set)
    for pair in pairs:
        kinds[root(pair.paths[0])].add(pair.kind)
    groups: dict[str, list[Sample]] = defaultdict(list)
    for sample in photos.samples:
        if str(sample.path) in above:
            groups[root(str(sample.path))].append(sample)
    return tuple(_duplicate(photos, group, kinds[name]) for name, group in groups.items())


def _duplicate(photos: PhotoSet, group: Sequence[Sample], kinds: set[Kind]) -> Duplicate:
    return Duplicate(
        paths=tuple(str(sample.path) for sample in group),
        splits=tuple(sorted({sample.split for sample in group})),
        classes=tuple(photos.classes[label] for label in sorted({sample.label for sample in group})),
        kinds=tuple(sorted(kinds)),
    )


def _pair(photos: PhotoSet, first: Sample, second: Sample, *, kind: Kind, likeness: float) -> Pair:
    return Pair(
        paths=(str(first.path), str(second.path)),
        splits=(first.split, second.split),
        classes=(photos.classes[first.label], photos.classes[second.label]),
        kind=kind,
        likeness=likeness,
    )


def _kind(match: Match) -> Kind:
    if match.mirrored:
        return "mirrored and cropped" if match.cropped else "mirrored"
    return "cropped" if match.cropped else "copy"


def _groups(digests: Iterable[tuple[Sample, str]]) -> list[list[Sample]]:
    """The samples that share a digest with another one."""
    groups: dict[str, list[Sample]] = defaultdict(list)
    for sample, digest in digests:
        groups[digest].append(sample)
    return [group for group in groups.values() if len(group) > 1]


def _whole_digest(path: Path) -> str:
    with open_bytes(path) as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()
