"""Batches of photographs, the same whatever the number of workers and processes.

The order of an epoch depends on (seed, epoch) only. So one optimiser step sees the same photographs on one
process or on four, and a run that was killed in the middle of an epoch continues with the batches that it
had not seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import attrgetter
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from torch.utils.data import DataLoader

from mpfgvc.config import OnError
from mpfgvc.data.images import reason_only
from mpfgvc.data.loader_processes import iterate
from mpfgvc.data.photos import Batch, ClassMembers, Collate, Key, Photos
from mpfgvc.data.samples import Photograph, Sample, chunks, labels_at
from mpfgvc.data.shard_table import shard_ends
from mpfgvc.data.transforms import Transform
from mpfgvc.errors import ConfigError, DataError
from mpfgvc.launcher import Processes, core_count, refuse_unguarded_script
from mpfgvc.seeding import seed_of

ONE_PROCESS = Processes()


class TrainingLoader:
    """This process's share of each training batch, epoch by epoch.

    `batch_size` counts the photographs of one optimiser step over all processes and must be a multiple of
    their number; this one takes every `world`-th from `rank` on. With `on_error="skip"` an unreadable
    photograph gives way to the next readable one of its class, so batches keep their size, and `tell` is
    called with a line when it is first met. Workers live from the first epoch to the last.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        transform: Transform,
        *,
        batch_size: int,
        seed: int,
        processes: Processes = ONE_PROCESS,
        workers: int | None = 0,
        on_error: OnError = "raise",
        tell: Callable[[str], None] | None = None,
    ) -> None:
        if not samples:
            raise DataError("there are no training photographs; check data.root and data.validation")
        if batch_size % processes.world:
            rule = f"must be a multiple of the {processes.world} processes"
            raise ConfigError(f"batch_size {rule}, got {batch_size}")
        self.samples, self.on_error, self.tell = samples, on_error, tell
        self.skipped: set[int] = set()
        self.order = _Order(len(samples), batch_size=batch_size, seed=seed, processes=processes)
        substitutes = ClassMembers(samples) if on_error == "skip" else None
        photos = Photos(samples, transform, seed=seed, substitutes=substitutes)
        self.batches = _data_loader(photos, self.order, worker_count(workers, processes=processes.local))

    def by_blocks(self, blocks: Blocks) -> Self:
        """The loader, with the photographs of a few blocks read together."""
        self.order.blocks = blocks
        return self

    @property
    def steps(self) -> int:
        """Optimiser steps of a whole epoch."""
        return self.order.steps

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[tuple[Tensor, Int[Tensor, " batch"]]]:
        """Images and labels of the batches of one epoch from `first_step` on.

        Raises DataError for an unreadable photograph, or where a whole class is unreadable.
        """
        self.order.set_epoch(epoch, first_step)
        for batch in iterate(self.batches):
            self._handle_unreadable(batch, self.order.share)
            yield batch.images, torch.from_numpy(labels_at(self.samples, batch.indices))

    def _handle_unreadable(self, batch: Batch, size: int) -> None:
        if batch.unreadable and self.on_error == "raise":
            raise DataError(batch.unreadable[0].reason)
        unreadable = sorted({failure.index for failure in batch.unreadable})
        if len(batch.indices) < size:
            all_of_them = f"{self.samples[unreadable[0]].path} and {len(unreadable) - 1} others"
            raise DataError(f"no training photograph of a class is readable: {all_of_them}; replace them")
        for failure in sorted(batch.unreadable, key=attrgetter("index")):
            if failure.index in self.skipped:
                continue
            self.skipped.add(failure.index)
            if self.tell is not None:
                path, count = self.samples[failure.index].path, f"{len(self.skipped)} so far"
                self.tell(f"skipped {path}: {reason_only(failure.reason, path)} ({count})")


class EvaluationLoader:
    """The photographs `rank`, `rank + world`, ... in order, each once: shards without padding.

    A `transform` that draws at random needs a `seed`, and then shows each photograph always the same way.
    Unreadable photographs end the iteration with a DataError or, with `on_error="skip"`, are named in their
    batch. `batch_size` is that of this process. `model_on_cpu` leaves the cores to the model.
    """

    def __init__(
        self,
        photographs: Sequence[Photograph],
        transform: Transform,
        *,
        batch_size: int,
        processes: Processes = ONE_PROCESS,
        workers: int | None = 0,
        model_on_cpu: bool = False,
        on_error: OnError = "raise",
        seed: int | None = None,
    ) -> None:
        own = range(processes.rank, len(photographs), processes.world)
        count = worker_count(workers, processes=processes.local, model_on_cpu=model_on_cpu)
        self.photographs, self.on_error = photographs, on_error
        photos = Photos(photographs, transform, seed=seed)
        self.batches = _data_loader(photos, _InOrder(own, batch_size), count)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        for batch in iterate(self.batches):
            if batch.unreadable and self.on_error == "raise":
                raise DataError(batch.unreadable[0].reason)
            yield batch


def labels_of(samples: Sequence[Sample]) -> Int[Tensor, " samples"]:
    """The label of each sample, to be indexed by the `indices` of a batch."""
    labels = np.empty(len(samples), np.int64)
    for places in chunks(len(samples)):
        labels[places.start : places.stop] = labels_at(samples, places)
    return torch.from_numpy(labels)


@dataclass(frozen=True)
class Blocks:
    """Photographs that are read together: `ends` says where each block ends among all photographs.

    The blocks come in random order, and photographs are shuffled within `together` of them at a time.
    """

    ends: Int[Tensor, " blocks"]
    together: int

    @classmethod
    def of_shards(cls, samples: Sequence[Sample], together: int) -> Self:
        """A block for each tar file, in the order of the samples."""
        return cls(torch.from_numpy(shard_ends(samples)), together)

    def windows(self, seed: int, epoch: int) -> Iterator[Tensor]:
        """The photographs of an epoch in their order, those of `together` blocks at a time."""
        ends = self.ends.tolist()
        starts = [0, *ends[:-1]]
        blocks = torch.randperm(len(ends), generator=_generator(seed, epoch)).tolist()
        for number, first in enumerate(range(0, len(blocks), self.together)):
            window = blocks[first : first + self.together]
            inside = torch.cat([torch.arange(starts[block], ends[block]) for block in window])
            yield inside[torch.randperm(len(inside), generator=_generator(seed, epoch, number))]


def epoch_batches(
    count: int,
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    world: int = 1,
    blocks: Blocks | None = None,
    first_step: int = 0,
) -> Iterator[list[int]]:
    """The indices of each whole batch of an epoch from `first_step` on, of all processes together.

    They depend on (seed, epoch) only. Without `blocks`, the order takes 8 bytes a photograph.
    """
    windows: Iterable[Tensor] = (
        [torch.randperm(count, generator=_generator(seed, epoch))]
        if blocks is None
        else blocks.windows(seed, epoch)
    )
    if count < batch_size:  # one batch, filled up so that every process gets the same number
        order = torch.cat([*windows]).tolist()
        batches = iter([[order[place % count] for place in range(count + -count % world)]])
    else:
        batches = _cut(windows, batch_size)
    yield from islice(batches, first_step, steps_per_epoch(count, batch_size))


def _cut(windows: Iterable[Tensor], size: int) -> Iterator[list[int]]:
    """All whole batches of the windows one after the other."""
    left = torch.zeros(0, dtype=torch.long)
    for window in windows:
        joined = torch.cat([left, window]) if len(left) else window
        whole = len(joined) // size * size
        yield from (joined[start : start + size].tolist() for start in range(0, whole, size))
        left = joined[whole:]


def _generator(*parts: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed_of(*parts))


def steps_per_epoch(count: int, batch_size: int) -> int:
    """Whole batches in an epoch of `count` photographs; a set smaller than a batch is one batch."""
    return max(1, count // batch_size)


def worker_count(workers: int | None, *, processes: int = 1, model_on_cpu: bool = False) -> int:
    """Loader processes for each of the `processes` of this machine.

    None = as many as there are cores for each, at most 8. Where a model that is only evaluated runs on the
    CPU itself (`model_on_cpu`), one for every four cores: the model takes all of them, and waits at every
    step for the threads that a worker has pushed aside.
    """
    if workers is not None:
        return workers
    own = core_count() // processes
    return min(8, own // 4) if model_on_cpu else max(1, min(8, own))


class _Order:
    """The batches of keys of one epoch; `set_epoch` says which epoch, and where to begin."""

    def __init__(self, count: int, *, batch_size: int, seed: int, processes: Processes) -> None:
        self.count, self.batch_size, self.seed = count, batch_size, seed
        self.processes = processes
        self.blocks: Blocks | None = None
        self.steps = steps_per_epoch(count, batch_size)
        self.set_epoch(0, 0)

    def set_epoch(self, epoch: int, first_step: int) -> None:
        self.current, self.first_step = epoch, first_step

    def __len__(self) -> int:
        return self.steps - self.first_step

    @property
    def share(self) -> int:
        """Photographs of a batch that this process has."""
        return -(-min(self.count, self.batch_size) // self.processes.world)

    def __iter__(self) -> Iterator[list[Key]]:
        rank, world = self.processes.rank, self.processes.world
        batches = epoch_batches(
            self.count,
            batch_size=self.batch_size,
            seed=self.seed,
            epoch=self.current,
            world=world,
            blocks=self.blocks,
            first_step=self.first_step,
        )
        for indices in batches:
            yield [(self.current, index) for index in indices[rank::world]]


@dataclass(frozen=True)
class _InOrder:
    """The batches of keys of an evaluation."""

    indices: range
    batch_size: int

    def __len__(self) -> int:
        return -(-len(self.indices) // self.batch_size)

    def __iter__(self) -> Iterator[list[Key]]:
        for start in range(0, len(self.indices), self.batch_size):
            yield [(0, index) for index in self.indices[start : start + self.batch_size]]


def _data_loader(photos: Photos, batches: _Order | _InOrder, workers: int) -> DataLoader[Batch]:
    if workers > 0:
        refuse_unguarded_script()
    loader: DataLoader[Any] = DataLoader(
        photos,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=Collate(photos.transform.image_size),
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # else every epoch would draw from the global one
    )
    return loader
