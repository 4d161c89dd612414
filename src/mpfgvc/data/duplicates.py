"""Photographs that show the same picture: equal files, and copies recompressed, resized, mirrored or cropped.

Thumbnails are compared in three steps, each for fewer pairs than the one before:

1. Descriptors of all photographs (64 numbers), and of their middle 90 %, plain and mirrored, are compared by
   matrix products in blocks. The most similar pairs of each photograph are kept.
2. Every crop of a grid of one photograph is compared with the other one, by the same descriptors. Sampling a
   crop is linear, R X C^T, and so are the first coefficients of its cosine transform: D R X C^T D^T.
3. The crop is moved until it fits best; then the edges of both must agree, for two flowers on a dark ground
   are equally bright in the same regions.

10 % crops change too many bits of a perceptual hash. The products of step 1 are quadratic with a small
factor: benchmarks/doctor_growth.py measures when that matters.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mpfgvc.data.images import open_photo
from mpfgvc.data.inspection import SIDE, Pixels, Thumbnails
from mpfgvc.data.samples import Sample

FLAT_LEVELS = 3.0
"""Photographs with less contrast all look alike; only equal files among them count as duplicates."""
CANDIDATE = 0.65
"""Cosine of two descriptors from which on a pair is looked at."""
CANDIDATES_EACH = 24
"""The most pairs that a photograph starts in step 1, for each of its four descriptors."""
SAME_SHAPES = 0.9
"""Cosine of the best crop from which on a pair is aligned."""
SAME_EDGES = 0.88
"""Correlation of the aligned edges from which on two photographs count as the same picture."""
WHOLE_SHARE = 0.96
"""A crop that keeps at least this share of both sides is called a copy, not a crop."""
FREQUENCIES = 8
"""Cosine frequencies in each direction."""
SHARES = (0.95, 0.9, 0.85, 0.8)
"""Lengths of the intervals of the grid; they begin at multiples of `STEP`."""
STEP = 0.05
_WHOLE, _MIDDLE = (0.0, 1.0), (0.05, 0.95)
_ROWS, _AT_ONCE = 256, 128
_FINE, _ROUNDS = 32, 2
_MOVES = (0.0, -0.0125, 0.0125, -0.025, 0.025)

Floats = NDArray[np.float32]
Interval = tuple[float, float]
"""Begin and end in shares of the whole side."""


class Pair(NamedTuple):
    """Two photographs of one picture, and how alike their edges are, at most 1.

    `kind` is same file, copy (perhaps recompressed, resized, brighter or darker), cropped, mirrored, or
    mirrored and cropped.
    """

    first: Sample
    second: Sample
    kind: str
    likeness: float


class Match(NamedTuple):
    """Two thumbnails of one picture, `first` < `second`, and how they differ; `likeness` as in `Pair`."""

    first: int
    second: int
    likeness: float
    mirrored: bool
    cropped: bool


def same_pictures(samples: Sequence[Sample], digests: Mapping[Path, str], thumbnails: Thumbnails | None) -> list[Pair]:
    """Equal files, each with the first of its group, then photographs that show the same picture.

    Without thumbnails, files are equal if their digests are.
    """
    groups = _groups((sample, digests[sample.path]) for sample in samples if sample.path in digests)
    if thumbnails is not None:
        groups = [
            same
            for group in groups
            for same in _groups((photograph, _whole_digest(photograph)) for photograph in group)
        ]
    pairs = [Pair(group[0], photograph, "same file", 1.0) for group in groups for photograph in group[1:]]
    if thumbnails is None:
        return pairs
    copies, by_path = {pair.second.path for pair in pairs}, {sample.path: sample for sample in samples}
    there = np.array([path not in copies for path in thumbnails.paths], dtype=bool)
    chosen = np.flatnonzero(there & (thumbnails.contrast >= FLAT_LEVELS))
    for match in near_duplicates(thumbnails.pixels[chosen]):
        first, second = (by_path[thumbnails.paths[chosen[index]]] for index in match[:2])
        changes = [name for name in ("mirrored", "cropped") if getattr(match, name)]
        pairs.append(Pair(first, second, " and ".join(changes) or "copy", match.likeness))
    return pairs


def groups_of(samples: Iterable[Sample], pairs: Sequence[Pair]) -> list[tuple[list[Sample], list[str]]]:
    """The pairs joined to groups, in the order of the dataset, and the kinds of each group's pairs."""
    above: dict[Path, Path] = {}

    def root(path: Path) -> Path:
        while above.setdefault(path, path) != path:
            path = above[path]
        return path

    for pair in pairs:
        above[root(pair.second.path)] = root(pair.first.path)
    groups: dict[Path, list[Sample]] = defaultdict(list)
    for sample in samples:
        if sample.path in above:
            groups[root(sample.path)].append(sample)
    kinds: dict[Path, set[str]] = defaultdict(set)
    for pair in pairs:
        kinds[root(pair.first.path)].add(pair.kind)
    return [(group, sorted(kinds[name])) for name, group in groups.items()]


def _groups(digests: Iterable[tuple[Sample, str]]) -> list[list[Sample]]:
    """The samples that share a digest with another one."""
    groups: dict[str, list[Sample]] = defaultdict(list)
    for sample, digest in digests:
        groups[digest].append(sample)
    return [group for group in groups.values() if len(group) > 1]


def _whole_digest(sample: Sample) -> str:
    with open_photo(sample.path) as file:
        return hashlib.blake2b(file.read()).hexdigest()


def near_duplicates(pixels: Pixels) -> list[Match]:
    """The pairs of thumbnails (pictures, SIDE, SIDE) that show the same picture, in order."""
    if len(pixels) < 2:
        return []
    whole, middle = _descriptors(pixels, _WHOLE), _descriptors(pixels, _MIDDLE)
    best: dict[tuple[int, int], Match] = {}
    for match in _matches(pixels, whole, _candidates(whole, middle)):
        best[match[:2]] = max(match, best.get(match[:2], match), key=lambda found: found.likeness)
    return [best[key] for key in sorted(best)]


def _candidates(whole: Floats, middle: Floats) -> NDArray[np.int64]:
    """The most similar pairs (source, target, mirrored), both ways, as either of the two may be the crop."""
    found = []
    for queries in (whole, middle):
        for mirror in (False, True):
            pairs = _similar(_mirrored(queries) if mirror else queries, whole)
            for both in (pairs, pairs[:, ::-1]):
                found.append(np.column_stack((both, np.full(len(both), mirror))))
    return np.unique(np.concatenate(found), axis=0)


def _similar(queries: Floats, whole: Floats) -> NDArray[np.int64]:
    """The best pairs (query, picture) of each query above `CANDIDATE`, none with itself."""
    found = []
    for top in range(0, len(queries), _ROWS):
        cosines = queries[top : top + _ROWS] @ whole.T
        rows = np.arange(len(cosines))
        cosines[rows, rows + top] = -1
        order = np.argsort(-cosines, axis=1, kind="stable")[:, :CANDIDATES_EACH]
        row, rank = np.nonzero(np.take_along_axis(cosines, order, axis=1) > CANDIDATE)
        found.append(np.stack((row + top, order[row, rank]), axis=1))
    return np.concatenate(found)


def _matches(pixels: Pixels, whole: Floats, candidates: NDArray[np.int64]) -> Iterator[Match]:
    """Steps 2 and 3, source by source."""
    sources, starts = np.unique(candidates[:, 0], return_index=True)
    groups = np.split(candidates, starts[1:])
    for begin in range(0, len(sources), _AT_ONCE):
        part = slice(begin, begin + _AT_ONCE)
        for pairs, crops in zip(groups[part], _crop_descriptors(pixels[sources[part]]), strict=True):
            targets, mirror = pairs[:, 1], pairs[:, 2:] == 1
            likeness = crops @ np.where(mirror, _mirrored(whole[targets]), whole[targets]).T
            for index in np.flatnonzero(likeness.max(axis=0) > SAME_SHAPES):
                source, target, mirrored = pairs[index].tolist()
                match = _aligned(pixels, source, target, bool(mirrored), int(likeness[:, index].argmax()))
                if match.likeness > SAME_EDGES:
                    yield match


def _aligned(pixels: Pixels, source: int, target: int, mirror: bool, crop: int) -> Match:
    other = pixels[target][:, ::-1] if mirror else pixels[target]
    intervals = [(float(begin), float(end)) for begin, end in _grid()]
    row, column = divmod(crop, len(intervals))
    likeness, rows, columns = _best_crop(pixels[source], other, intervals[row], intervals[column])
    cropped = min(end - begin for begin, end in (rows, columns)) < WHOLE_SHARE
    return Match(min(source, target), max(source, target), round(min(likeness, 1.0), 4), mirror, cropped)


def _grid() -> NDArray[np.float32]:
    """The intervals (begin, end) that are tried, the whole first. (intervals, 2)"""
    found = [(0.0, 1.0)]
    for share in SHARES:
        starts = range(round((1 - share) / STEP) + 1)
        found += [(start * STEP, start * STEP + share) for start in starts]
    return np.array(found, dtype=np.float32)


def _sampling(intervals: Floats, size: int) -> Floats:
    """Matrices that interpolate `size` points within intervals of a thumbnail's side. (..., size, SIDE)"""
    begin, end = intervals[..., :1], intervals[..., 1:]
    points = (begin + (end - begin) * (np.arange(size, dtype=np.float32) + 0.5) / size) * SIDE - 0.5
    points = np.clip(points, 0, SIDE - 1)
    distance = np.abs(points[..., None] - np.arange(SIDE, dtype=np.float32))
    return np.asarray(np.maximum(0, 1 - distance), dtype=np.float32)


def _cosines(intervals: Floats) -> Floats:
    """From a thumbnail's side to the first cosine coefficients of each interval. (..., FREQUENCIES, SIDE)"""
    angles = np.pi * np.arange(FREQUENCIES)[:, None] * (np.arange(SIDE) + 0.5) / SIDE
    return np.asarray(np.cos(angles).astype(np.float32) @ _sampling(intervals, SIDE), dtype=np.float32)


def _weights() -> Floats:
    """What each coefficient counts: nothing for the mean, more for edges than for large shapes."""
    rows, columns = np.mgrid[:FREQUENCIES, :FREQUENCIES]
    return np.asarray(np.sqrt(np.hypot(rows, columns)), dtype=np.float32)


def _unit(vectors: Floats) -> Floats:
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-6), dtype=np.float32)


def _descriptors(pixels: Pixels, interval: Interval) -> Floats:
    """What pictures, or a crop of each, are compared by: unit rows. (pictures, FREQUENCIES^2)"""
    transform = _cosines(np.array(interval, dtype=np.float32))
    parts = [pixels[start : start + 1024] for start in range(0, len(pixels), 1024)]
    coefficients = [transform @ part.astype(np.float32) @ transform.T * _weights() for part in parts]
    return _unit(np.concatenate(coefficients).reshape(len(pixels), -1))


def _mirrored(descriptions: Floats) -> Floats:
    """The descriptors of the same pictures seen in a mirror: odd frequencies across change their sign."""
    signs = np.tile(np.where(np.arange(FREQUENCIES) % 2, -1, 1), FREQUENCIES)
    return np.asarray(descriptions * signs, dtype=np.float32)


def _crop_descriptors(pixels: Pixels) -> Floats:
    """The descriptor of every crop of the grid, rows before columns. (pictures, crops, FREQUENCIES^2)"""
    count, pictures = len(_grid()), len(pixels)
    bank = _cosines(_grid()).reshape(count * FREQUENCIES, SIDE)
    coefficients = (bank @ pixels.astype(np.float32) @ bank.T) * np.tile(_weights(), (count, count))
    shaped = coefficients.reshape(pictures, count, FREQUENCIES, count, FREQUENCIES).transpose(0, 1, 3, 2, 4)
    return _unit(shaped.reshape(pictures, count * count, FREQUENCIES**2))


def _best_crop(picture: Pixels, other: Pixels, rows: Interval, columns: Interval) -> tuple[float, Interval, Interval]:
    """How alike the edges of `other` and of a crop of `picture` are, -1..1, and the crop that fits best."""
    whole, source = other.astype(np.float32), picture.astype(np.float32)
    full = _sampling(np.array(_WHOLE, dtype=np.float32), _FINE)
    target = _edges(np.asarray((full @ whole @ full.T)[None], dtype=np.float32))[0]
    likeness = -1.0
    for _ in range(_ROUNDS):
        columns, likeness = _moved(source, target, rows, columns)
        rows, likeness = _moved(source.T, _turned(target), columns, rows)
    return likeness, rows, columns


def _moved(source: Floats, target: Floats, rows: Interval, columns: Interval) -> tuple[Interval, float]:
    """The columns, near the given ones, that fit best with these rows, and the likeness then."""
    begin, end = columns
    moved = [(max(0.0, begin + first), min(1.0, end + last)) for first in _MOVES for last in _MOVES]
    tried = np.array(moved, dtype=np.float32)
    across = _sampling(np.array(rows, dtype=np.float32), _FINE) @ source
    crops = np.asarray(across @ _sampling(tried, _FINE).transpose(0, 2, 1), dtype=np.float32)
    likeness = _edges(crops) @ target
    best = int(likeness.argmax())
    return (float(tried[best, 0]), float(tried[best, 1])), float(likeness[best])


def _edges(pictures: Floats) -> Floats:
    """The gradients of pictures as unit rows: first those across, then those down. (pictures, 2 * n)"""
    across = pictures[:, 1:-1, 2:] - pictures[:, 1:-1, :-2]
    down = pictures[:, 2:, 1:-1] - pictures[:, :-2, 1:-1]
    return _unit(np.stack((across, down), axis=1).reshape(len(pictures), -1))


def _turned(edges: Floats) -> Floats:
    """The gradients of the same picture with rows and columns exchanged."""
    across, down = edges.reshape(2, _FINE - 2, _FINE - 2)
    return np.stack((down.T, across.T)).reshape(-1)
