"""Is one picture a part of the other? Thumbnails compared over crops, first coarsely, then to a pixel.

A crop is a pair of intervals, rows and columns, in shares of the whole picture. Sampling it is linear:
crop = R X C^T, with R and C interpolating within the intervals. So are the first coefficients of its cosine
transform, by which all crops of a grid are compared at once:

    D R_i X C_j^T D^T      D: FREQUENCIES rows of the cosine transform, i and j: intervals

The gradients decide in the end: two flowers on a dark ground are equally bright in the same places, but their
edges differ.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mpfgvc.data.thumbnails import SIDE, Pixels

FREQUENCIES = 8
"""Cosine frequencies in each direction."""
SHARES = (1.0, 0.95, 0.9, 0.85, 0.8)
"""Lengths of the intervals of the grid; they begin at multiples of `STEP`."""
STEP = 0.05
_FINE = 32
_MOVES = (0.0, -0.0125, 0.0125, -0.025, 0.025)
_ROUNDS = 2

Floats = NDArray[np.float32]
Interval = tuple[float, float]


def grid() -> NDArray[np.float32]:
    """The intervals (begin, end) that are tried, the whole first. (intervals, 2)"""
    found = [(0.0, 1.0)]
    for share in SHARES[1:]:
        starts = range(round((1 - share) / STEP) + 1)
        found += [(start * STEP, start * STEP + share) for start in starts]
    return np.array(found, dtype=np.float32)


def sampling(intervals: Floats, size: int) -> Floats:
    """Matrices that interpolate `size` points within intervals of a thumbnail's side. (..., size, SIDE)"""
    begin, end = intervals[..., :1], intervals[..., 1:]
    points = (begin + (end - begin) * (np.arange(size, dtype=np.float32) + 0.5) / size) * SIDE - 0.5
    points = np.clip(points, 0, SIDE - 1)
    distance = np.abs(points[..., None] - np.arange(SIDE, dtype=np.float32))
    return np.asarray(np.maximum(0, 1 - distance), dtype=np.float32)


def cosines(intervals: Floats) -> Floats:
    """From a thumbnail's side to the first cosine coefficients of each interval. (..., FREQUENCIES, SIDE)"""
    angles = np.pi * np.arange(FREQUENCIES)[:, None] * (np.arange(SIDE) + 0.5) / SIDE
    return np.asarray(np.cos(angles).astype(np.float32) @ sampling(intervals, SIDE), dtype=np.float32)


def weights() -> Floats:
    """What each coefficient counts: nothing for the mean, more for edges than for large shapes."""
    rows, columns = np.mgrid[:FREQUENCIES, :FREQUENCIES]
    return np.asarray(np.sqrt(np.hypot(rows, columns)), dtype=np.float32)


def unit(vectors: Floats) -> Floats:
    """Rows of length 1."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-6), dtype=np.float32)


def descriptors(pixels: Pixels, interval: Interval = (0.0, 1.0)) -> Floats:
    """What pictures, or a crop of each, are compared by: unit rows. (pictures, FREQUENCIES^2)"""
    transform = cosines(np.array(interval, dtype=np.float32))
    coefficients = transform @ pixels.astype(np.float32) @ transform.T * weights()
    return unit(coefficients.reshape(len(pixels), -1))


def mirrored(descriptions: Floats) -> Floats:
    """The descriptors of the same pictures seen in a mirror: odd frequencies across change their sign."""
    signs = np.tile(np.where(np.arange(FREQUENCIES) % 2, -1, 1), FREQUENCIES)
    return np.asarray(descriptions * signs, dtype=np.float32)


def crop_descriptors(pixels: Pixels) -> Floats:
    """The descriptor of every crop of the grid, rows before columns. (pictures, crops, FREQUENCIES^2)"""
    count, pictures = len(grid()), len(pixels)
    bank = cosines(grid()).reshape(count * FREQUENCIES, SIDE)
    coefficients = (bank @ pixels.astype(np.float32) @ bank.T) * np.tile(weights(), (count, count))
    shaped = coefficients.reshape(pictures, count, FREQUENCIES, count, FREQUENCIES).transpose(0, 1, 3, 2, 4)
    return unit(shaped.reshape(pictures, count * count, FREQUENCIES**2))


def crop_of(number: int) -> tuple[Interval, Interval]:
    """Rows and columns of a crop of the grid by its number."""
    intervals = [(float(begin), float(end)) for begin, end in grid()]
    row, column = divmod(number, len(intervals))
    return intervals[row], intervals[column]


def aligned_likeness(
    picture: Pixels, other: Pixels, rows: Interval, columns: Interval
) -> tuple[float, Interval, Interval]:
    """How alike the edges of `other` and of a crop of `picture` are, -1..1, and the crop that fits best."""
    whole, source = other.astype(np.float32), picture.astype(np.float32)
    full = sampling(np.array((0.0, 1.0), dtype=np.float32), _FINE)
    target = _edges(np.asarray((full @ whole @ full.T)[None], dtype=np.float32))[0]
    likeness = -1.0
    for _ in range(_ROUNDS):
        columns, likeness = _moved(source, target, rows, columns)
        rows, likeness = _moved(source.T, _turned(target), columns, rows)
    return likeness, rows, columns


def _moved(source: Floats, target: Floats, rows: Interval, columns: Interval) -> tuple[Interval, float]:
    """The columns, near the given ones, that fit best with these rows, and the likeness then."""
    tried = np.array(_neighbours(columns), dtype=np.float32)
    across = sampling(np.array(rows, dtype=np.float32), _FINE) @ source
    crops = np.asarray(across @ sampling(tried, _FINE).transpose(0, 2, 1), dtype=np.float32)
    likeness = _edges(crops) @ target
    best = int(likeness.argmax())
    return (float(tried[best, 0]), float(tried[best, 1])), float(likeness[best])


def _neighbours(interval: Interval) -> Sequence[Interval]:
    begin, end = interval
    return [(max(0.0, begin + first), min(1.0, end + last)) for first in _MOVES for last in _MOVES]


def _edges(pictures: Floats) -> Floats:
    """The gradients of pictures as unit rows: first those across, then those down. (pictures, 2 * n)"""
    across = pictures[:, 1:-1, 2:] - pictures[:, 1:-1, :-2]
    down = pictures[:, 2:, 1:-1] - pictures[:, :-2, 1:-1]
    return unit(np.stack((across, down), axis=1).reshape(len(pictures), -1))


def _turned(edges: Floats) -> Floats:
    """The gradients of the same picture with rows and columns exchanged."""
    across, down = edges.reshape(2, _FINE - 2, _FINE - 2)
    return np.stack((down.T, across.T)).reshape(-1)
