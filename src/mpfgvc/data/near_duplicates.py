"""Photographs that show the same picture: recompressed, resized, made brighter, mirrored or cropped.

Three steps, each for fewer pairs than the one before:

1. Descriptors of all photographs (64 numbers), and of their middle 90 %, plain and mirrored, are compared by
   matrix products in blocks. The most similar pairs of each photograph are kept.
2. Every crop of a grid of one photograph is compared with the other one, by the same descriptors.
3. The crop is moved until it fits best; then the edges of both must agree (crop_alignment.py).

A table of hashes would be linear, but 10 % crops change too many bits of a perceptual hash. The products of
step 1 are quadratic with a small factor: benchmarks/doctor_growth.py measures when that matters.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mpfgvc.data.crop_alignment import (
    Floats,
    aligned_likeness,
    crop_descriptors,
    crop_of,
    descriptors,
    mirrored,
)
from mpfgvc.data.thumbnails import Pixels

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
_MIDDLE = (0.05, 0.95)
_ROWS, _COLUMNS, _AT_ONCE = 512, 8192, 128

Numbers = NDArray[np.intp]


@dataclass(frozen=True, kw_only=True)
class Match:
    """Two pictures, by their places in the list, `first` < `second`, and how they differ."""

    first: int
    second: int
    likeness: float
    """Correlation of the edges after alignment, at most 1."""
    mirrored: bool
    cropped: bool


@dataclass(frozen=True, kw_only=True)
class _Candidates:
    """Pairs to look at: crops of `source` are compared with `target`, mirrored where `mirror` says so."""

    source: Numbers
    target: Numbers
    mirror: NDArray[np.bool_]


def near_duplicates(pixels: Pixels) -> list[Match]:
    """The pairs of thumbnails (pictures, SIDE, SIDE) that show the same picture, in order."""
    if len(pixels) < 2:
        return []
    whole = np.concatenate([descriptors(part) for part in _parts(pixels)])
    middle = np.concatenate([descriptors(part, _MIDDLE) for part in _parts(pixels)])
    candidates = _candidates(whole, middle)
    best: dict[tuple[int, int], Match] = {}
    for match in _matches(pixels, whole, candidates):
        key = match.first, match.second
        if key not in best or match.likeness > best[key].likeness:
            best[key] = match
    return [best[key] for key in sorted(best)]


def _parts(pixels: Pixels) -> Iterator[Pixels]:
    for start in range(0, len(pixels), 1024):
        yield pixels[start : start + 1024]


def _candidates(whole: Floats, middle: Floats) -> _Candidates:
    """The most similar pairs in both directions, since either of the two may be the crop."""
    count, found = len(whole), []
    for of_middle, queries in ((False, whole), (True, middle)):
        for mirror in (False, True):
            pairs = _similar(mirrored(queries) if mirror else queries, whole, all_pairs=of_middle)
            for source, target in (pairs.T, pairs.T[::-1]):
                found.append((source * count + target) * 2 + int(mirror))
    pair, mirror_of = np.divmod(np.unique(np.concatenate(found)), 2)
    source, target = np.divmod(pair, count)
    return _Candidates(source=source, target=target, mirror=mirror_of == 1)


def _similar(queries: Floats, whole: Floats, *, all_pairs: bool) -> NDArray[np.int64]:
    """Pairs (query, picture) above `CANDIDATE`, the best of each query; in one order without `all_pairs`."""
    found = [np.zeros((0, 2), dtype=np.int64)]
    for top in range(0, len(queries), _ROWS):
        rows, columns, cosines = [], [], []
        for left in range(0 if all_pairs else top - top % _COLUMNS, len(whole), _COLUMNS):
            product = queries[top : top + _ROWS] @ whole[left : left + _COLUMNS].T
            row, column = np.nonzero(product > CANDIDATE)
            cosines.append(product[row, column])
            rows.append(row + top)
            columns.append(column + left)
        found.append(
            _best_of_each(np.concatenate(rows), np.concatenate(columns), np.concatenate(cosines), all_pairs)
        )
    return np.concatenate(found)


def _best_of_each(rows: Numbers, columns: Numbers, cosines: Floats, all_pairs: bool) -> NDArray[np.int64]:
    wanted = rows != columns if all_pairs else rows < columns
    rows, columns, cosines = rows[wanted], columns[wanted], cosines[wanted]
    order = np.lexsort((-cosines, rows))
    rows, columns = rows[order], columns[order]
    place = np.arange(len(rows)) - np.searchsorted(rows, rows)
    kept = place < CANDIDATES_EACH
    return np.stack((rows[kept], columns[kept]), axis=1).astype(np.int64)


def _matches(pixels: Pixels, whole: Floats, candidates: _Candidates) -> Iterator[Match]:
    """Steps 2 and 3, source by source."""
    sources, starts = np.unique(candidates.source, return_index=True)
    ends = np.append(starts[1:], len(candidates.source))
    for begin in range(0, len(sources), _AT_ONCE):
        part = slice(begin, begin + _AT_ONCE)
        crops = crop_descriptors(pixels[sources[part]])
        for source, start, end, each in zip(sources[part], starts[part], ends[part], crops, strict=True):
            targets, mirror = candidates.target[start:end], candidates.mirror[start:end]
            wanted = np.where(mirror[:, None], mirrored(whole[targets]), whole[targets])
            likeness = each @ wanted.T
            for pair in np.flatnonzero(likeness.max(axis=0) > SAME_SHAPES):
                number = int(likeness[:, pair].argmax())
                match = _aligned(pixels, int(source), int(targets[pair]), bool(mirror[pair]), number)
                if match.likeness > SAME_EDGES:
                    yield match


def _aligned(pixels: Pixels, source: int, target: int, mirror: bool, number: int) -> Match:
    other = pixels[target][:, ::-1] if mirror else pixels[target]
    likeness, rows, columns = aligned_likeness(pixels[source], other, *crop_of(number))
    kept = min(end - begin for begin, end in (rows, columns))
    return Match(
        first=min(source, target),
        second=max(source, target),
        likeness=round(min(likeness, 1.0), 4),
        mirrored=mirror,
        cropped=kept < WHOLE_SHARE,
    )
