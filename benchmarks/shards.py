"""Training photographs out of shards beside the same photographs out of files, and out of smaller copies.

    python benchmarks/shards.py ../shared/data/CUB_200_2011/images

The photographs are scaled to 500 pixels on their longer side, as CUB has them, and to 4,000 by 3,000 (JPEG,
quality 90). One thread, one process: from the bytes to the batches of random crops at 224 pixels that
TrainingLoader gives, in processor time. The check: from shards the batches are the same bits as from files.

`cold` reads the bytes alone, in the random order of an epoch, after the system was told to forget the files.
The last rows are memory that the system cannot take back: of an index that is mapped against one that is
read, and of all that a run keeps of its photographs, their list, their splits and their order.
"""

import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import cast

import numpy as np
import torch

from common import photographs
from image_loading import AUGMENT, PREPROCESSING, enlarged
from mpfgvc.config import DataConfig
from mpfgvc.data.catalog import read_photos
from mpfgvc.data.headers import DIGEST_DIGITS
from mpfgvc.data.loading import Blocks, TrainingLoader, epoch_batches
from mpfgvc.data.pack import Pack
from mpfgvc.data.photo_list import PhotoList
from mpfgvc.data.run_photos import restore
from mpfgvc.data.samples import PhotoSet, Sample, class_counts, labels_at
from mpfgvc.data.shard_index import INDEX, ROW, Layout, ShardFile, index_digest, map_index, save_index
from mpfgvc.data.tars import open_bytes
from mpfgvc.data.transforms import train_transform
from side_by_side import Comparison, Work, comparison, own_megabytes, peak_megabytes, report, seconds_of

BATCH, SIDE, MEGABYTE = 16, 300, 1024**2
_held: list[object] = []


def main() -> None:
    torch.set_num_threads(1)
    found = photographs(sys.argv[1])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = [
            *_compare(folder / "500", found[:: max(1, len(found) // 200)], 500, "500-px JPEG", wanted=1),
            *_compare(folder / "4000", found[:: max(1, len(found) // 16)], 4000, "12-megapixel", wanted=4),
            _index_memory(folder / "index", 10_000_000),
            *_run_memory(folder / "runs"),
        ]
    report("shards", rows)


def _compare(
    folder: Path, paths: Sequence[Path], side: int, kind: str, *, wanted: float
) -> Iterator[Comparison]:
    """Shards against files, and copies against whole photographs, both in shards."""
    files = _files(folder / "files", paths, side)
    shards, copies = (_packed(files, folder / str(size), size) for size in (None, SIDE))
    _refuse_other_bits(files, shards)
    claim = f"{len(paths)} training photographs, {kind}"
    yield _processor_time(
        f"{claim}: shards against files",
        ours=lambda: _epoch(shards),
        reference=lambda: _epoch(files),
        wanted=0.95,
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
    samples = [Sample(path=enlarged(path, side, folder), label=0, split="train") for path in paths]
    return PhotoSet(name="photographs", classes=("bird",), samples=tuple(samples))


def _packed(files: PhotoSet, out: Path, size: int | None) -> PhotoSet:
    classes = (*files.classes, "none")  # a dataset has two
    twice = PhotoSet(
        name=files.name,
        classes=classes,
        samples=(*files.samples, Sample(path=files.samples[0].path, label=1, split="train")),
    )
    Pack(out=out, root=None, per_shard=100, size=size).write(twice)
    photos = read_photos(DataConfig(dataset="shards", root=str(out), validation=0), seed=0)
    return PhotoSet(name="shards", classes=files.classes, samples=tuple(photos.samples[:-1]))


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
    by_shard = _order(files, Blocks.of_shards(shards.samples, 1))
    pairs, blocked = [], []
    for _ in range(turns):
        pairs.append((_cold_seconds(shards, order), _cold_seconds(files, order)))
        blocked.append(_cold_seconds(shards, by_shard))
    print(f"{claim}: one shard after the other {sorted(blocked)[turns // 2]:.3g} s")
    return comparison(claim, "s", pairs, 0.9)


def _order(photos: PhotoSet, blocks: Blocks | None = None) -> list[int]:
    batches = epoch_batches(len(photos.samples), batch_size=1, seed=0, epoch=0, blocks=blocks)
    return [place for batch in batches for place in batch]


def _cold_seconds(photos: PhotoSet, order: Sequence[int]) -> float:
    for file in {Path(str(sample.path).partition("!")[0]) for sample in photos.samples}:
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)

    def read() -> None:
        for place in order:
            with open_bytes(photos.samples[place].source) as file:
                file.read()

    return seconds_of(read)


def _index(folder: Path, count: int, per_shard: int = 10_000) -> Layout:
    """An index of photographs that are not there, in shards that hold nothing."""
    folder.mkdir()
    rows = np.zeros(count, ROW)
    places = np.arange(count)
    rows["number"], rows["shard"], rows["size"] = places, places // per_shard, 20_000
    rows["offset"], rows["label"] = places % per_shard * 22_000, places % 1000
    shards = tuple(
        ShardFile(name=f"x-{number:06d}.tar", bytes=1, photographs=per_shard)
        for number in range(count // per_shard)
    )
    for shard in shards:
        (folder / shard.name).write_bytes(b"\0")
    classes = tuple(f"class {number}" for number in range(1000))
    layout = Layout(
        name="x",
        classes=classes,
        supercategory=None,
        size=None,
        suffixes=(".jpg",),
        shards=shards,
        index_digest=index_digest(rows),
    )
    save_index(folder, layout, rows)
    return layout


def _index_memory(folder: Path, count: int) -> Comparison:
    layout = _index(folder, count)

    def look() -> None:
        rows = map_index(folder / INDEX, layout)
        _held.append(rows)  # else its pages would count as memory of the process
        for place in np.random.default_rng(0).integers(0, count, 10_000):
            rows[place]["offset"]

    peak = [(max(peak_megabytes(look), 0.1), count * ROW.itemsize / MEGABYTE) for _ in range(3)]
    return comparison(f"index of {count:,} photographs, 10,000 looked up: memory", "MB", peak, 5)


def _run_memory(folder: Path) -> Iterator[Comparison]:
    """What a run keeps of its photographs, against objects, and of ten times as many against ten times."""
    folder.mkdir()
    for count in (100_000, 1_000_000, 10_000_000):
        _index(folder / str(count), count)
    few, many, most = (partial(_begin_run, folder / str(count)) for count in (100_000, 1_000_000, 10_000_000))
    objects = partial(_begin_run, folder / "100000", as_objects=True)
    turns = range(3)
    pairs = [(own_megabytes(few), own_megabytes(objects)) for _ in turns]
    yield comparison("a run on 100,000 photographs in shards against objects: memory", "MB", pairs, 5)
    pairs = [(own_megabytes(most), 10 * own_megabytes(many)) for _ in turns]
    yield comparison("a run on 10 million against ten times one on 1 million: memory", "MB", pairs, 5)


def _begin_run(folder: Path, *, as_objects: bool = False) -> None:
    """What a run does with the list of its photographs, and the order of a few steps, without an image."""
    config = DataConfig(dataset="shards", root=str(folder), validation=0)
    photos = read_photos(config, seed=0)
    if as_objects:
        photos = replace(photos, samples=tuple(photos.samples))
    digests = {each.path: "0" * DIGEST_DIGITS for each in photos.samples} if as_objects else {}
    listed = PhotoList.of(photos, root=folder, digests=digests)
    listed.fingerprint()
    listed.save(folder / "run.json")
    restored = restore(cast("PhotoList", PhotoList.load(folder / "run.json")), config)
    train = restored.photos.subset("train")
    class_counts(train, len(photos.classes))
    blocks = Blocks.of_shards(train, together=8)
    for batch in islice(epoch_batches(len(train), batch_size=64, seed=0, epoch=1, blocks=blocks), 100):
        labels_at(train, batch)


if __name__ == "__main__":
    main()
