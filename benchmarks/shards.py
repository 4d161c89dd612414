"""Training photographs out of shards beside the same photographs out of files, and out of smaller copies.

    python benchmarks/shards.py ../shared/data/CUB_200_2011/images

The photographs are scaled to 500 pixels on their longer side, as CUB has them, and to 4,000 by 3,000 (JPEG,
quality 90). One thread, one process: from the bytes to the batches of random crops at 224 pixels that
TrainingLoader gives, in processor time. The check: from shards the batches are the same bits as from files.

`cold` reads the bytes alone, in the random order of an epoch, after the system was told to forget the files.
"""

import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from common import photographs
from image_loading import AUGMENT, PREPROCESSING, enlarged
from mpfgvc.config import DataConfig
from mpfgvc.data.catalog import read_photos
from mpfgvc.data.images import open_photo
from mpfgvc.data.loading import TrainingLoader, epoch_batches
from mpfgvc.data.pack import pack
from mpfgvc.data.samples import PhotoSet, Samples
from mpfgvc.data.transforms import train_transform
from side_by_side import Comparison, Work, comparison, report, seconds_of

BATCH, SIDE = 16, 300


def main() -> None:
    torch.set_num_threads(1)
    found = photographs(sys.argv[1])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = [
            *_compare(folder / "500", found[:: max(1, len(found) // 200)], 500, "500-px JPEG", wanted=1),
            *_compare(folder / "4000", found[:: max(1, len(found) // 16)], 4000, "12-megapixel", wanted=4),
        ]
    report("shards", rows)


def _compare(folder: Path, paths: Sequence[Path], side: int, kind: str, *, wanted: float) -> Iterator[Comparison]:
    """Shards against files, and copies against whole photographs, both in shards."""
    files = _files(folder / "files", paths, side)
    shards, copies = (_packed(files, folder / str(size), size) for size in (None, SIDE))
    _refuse_other_bits(files, shards)
    claim = f"{len(paths)} training photographs, {kind}"
    yield _processor_time(
        f"{claim}: shards against files", ours=lambda: _epoch(shards), reference=lambda: _epoch(files), wanted=0.95
    )
    yield _processor_time(
        f"{claim}: copies of {SIDE} px in shards against files",
        ours=lambda: _epoch(copies),
        reference=lambda: _epoch(files),
        wanted=wanted,
    )
    if side == 500:
        yield _cold(f"{claim}: their bytes, cold, shards against files", shards, files)


def _processor_time(claim: str, *, ours: Work, reference: Work, wanted: float, turns: int = 5) -> Comparison:
    """As compare_time, but what else runs on the machine does not count; all files are in its memory."""
    ours(), reference()
    pairs = [(_processor_seconds(ours), _processor_seconds(reference)) for _ in range(turns)]
    return comparison(claim, "s", pairs, wanted)


def _processor_seconds(work: Work) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def _files(folder: Path, paths: Sequence[Path], side: int) -> PhotoSet:
    folder.mkdir(parents=True)
    rows = [(enlarged(path, side, folder).name, 0, "train") for path in paths]
    return PhotoSet(name="photographs", classes=("bird",), samples=Samples.of(folder, rows))


def _packed(files: PhotoSet, out: Path, size: int | None) -> PhotoSet:
    classes = (*files.classes, "none")  # a dataset has two
    labels = np.zeros(len(files.samples) + 1, np.int64)
    labels[-1] = 1
    samples = files.samples.take([*range(len(files.samples)), 0])
    twice = replace(files, classes=classes, samples=replace(samples, labels=labels))
    pack(twice, out, per_shard=100, size=size)
    photos = read_photos(DataConfig(dataset="shards", root=str(out), validation=0), seed=0)
    return PhotoSet(name="shards", classes=files.classes, samples=photos.samples[:-1])


def _batches(photos: PhotoSet) -> TrainingLoader:
    return TrainingLoader(photos.samples, train_transform(PREPROCESSING, AUGMENT), batch_size=BATCH, seed=0)


def _epoch(photos: PhotoSet) -> None:
    for _ in _batches(photos).epoch(0):
        pass


def _refuse_other_bits(files: PhotoSet, shards: PhotoSet) -> None:
    for (first, _), (second, _) in zip(_batches(files).epoch(0), _batches(shards).epoch(0), strict=True):
        if not torch.equal(first, second):
            raise SystemExit("shards: the batches are not those of the files")


def _cold(claim: str, shards: PhotoSet, files: PhotoSet, turns: int = 5) -> Comparison:
    order = _order(files)
    pairs = []
    for _ in range(turns):
        pairs.append((_cold_seconds(shards, order), _cold_seconds(files, order)))
    return comparison(claim, "s", pairs, 0.9)


def _order(photos: PhotoSet) -> list[int]:
    batches = epoch_batches(len(photos.samples), batch_size=1, seed=0, epoch=0)
    return [place for batch in batches for place in batch]


def _cold_seconds(photos: PhotoSet, order: Sequence[int]) -> float:
    for file in {Path(str(sample.path).partition("!")[0]) for sample in photos.samples}:
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)

    def read() -> None:
        for place in order:
            with open_photo(photos.samples.path(place)) as file:
                file.read()

    return seconds_of(read)


if __name__ == "__main__":
    main()
