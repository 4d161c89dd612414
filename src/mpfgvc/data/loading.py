"""Batches of photographs, the same whatever the number of workers and processes.

The order of an epoch depends on (seed, epoch) only. So one optimiser step sees the same photographs on one
process or on four, and a run that was killed in the middle of an epoch continues with the batches that it
had not seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, Self

import torch
from jaxtyping import Int
from torch import Tensor
from torch.utils.data import DataLoader

from mpfgvc.config import OnError
from mpfgvc.data.decoding.packed import tar_of
from mpfgvc.data.images import reason_only
from mpfgvc.data.loader_processes import iterate
from mpfgvc.data.photos import Batch, ClassMembers, Collate, Key, Photos
from mpfgvc.data.samples import Photograph, Sample
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
        self.labels = labels_of(samples)
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
        for batch, keys in zip(iterate(self.batches), self.order, strict=True):
            self._handle_unreadable(batch, len(keys))
            yield batch.images, self.labels[list(batch.indices)]

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
        keys = [(0, index) for index in range(processes.rank, len(photographs), processes.world)]
        batches = [keys[start : start + batch_size] for start in range(0, len(keys), batch_size)]
        count = worker_count(workers, processes=processes.local, model_on_cpu=model_on_cpu)
        self.photographs, self.on_error = photographs, on_error
        self.batches = _data_loader(Photos(photographs, transform, seed=seed), batches, count)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        for batch in iterate(self.batches):
            if batch.unreadable and self.on_error == "raise":
                raise DataError(batch.unreadable[0].reason)
            yield batch


def labels_of(samples: Sequence[Sample]) -> Int[Tensor, " samples"]:
    """The label of each sample, to be indexed by the `indices` of a batch."""
    return torch.tensor([sample.label for sample in samples], dtype=torch.long)


@dataclass(frozen=True)
class Blocks:
    """Photographs that are read together: the block of each, and how many blocks are shuffled at a time."""

    numbers: Int[Tensor, " samples"]
    together: int

    @classmethod
    def of_shards(cls, samples: Sequence[Sample], together: int) -> Self:
        """A block for each tar file, in the order of the samples."""
        known: dict[Path, int] = {}
        numbers = [known.setdefault(tar_of(sample.path), len(known)) for sample in samples]
        return cls(torch.tensor(numbers), together)

    def order(self, generator: torch.Generator) -> Tensor:
        """All photographs: the blocks in random order, `together` of them shuffled at a time."""
        places = torch.randperm(int(self.numbers.max()) + 1, generator=generator)
        window = places[self.numbers] // self.together
        shuffled = torch.randperm(len(self.numbers), generator=generator)
        return shuffled[window[shuffled].argsort(stable=True)]


def epoch_order(
    count: int, *, batch_size: int, seed: int, epoch: int, world: int = 1, blocks: Blocks | None = None
) -> list[list[int]]:
    """The indices of each whole batch of an epoch, of all processes together; a function of (seed, epoch)."""
    generator = torch.Generator().manual_seed(seed_of(seed, epoch))
    shuffled = torch.randperm(count, generator=generator) if blocks is None else blocks.order(generator)
    order: list[int] = shuffled.tolist()
    if count < batch_size:  # one batch, filled up so that every process gets the same number
        whole = count + -count % world
        return [[order[place % count] for place in range(whole)]]
    starts = range(0, steps_per_epoch(count, batch_size) * batch_size, batch_size)
    return [order[start : start + batch_size] for start in starts]


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

    def __iter__(self) -> Iterator[list[Key]]:
        rank, world = self.processes.rank, self.processes.world
        batches = epoch_order(
            self.count,
            batch_size=self.batch_size,
            seed=self.seed,
            epoch=self.current,
            world=world,
            blocks=self.blocks,
        )
        for indices in batches[self.first_step :]:
            yield [(self.current, index) for index in indices[rank::world]]


def _data_loader(photos: Photos, batches: _Order | list[list[Key]], workers: int) -> DataLoader[Batch]:
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
