"""Batches of photographs, the same whatever the number of workers and processes.

The order of an epoch depends on (seed, epoch) alone. So one optimiser step
sees the same photographs on one process or on four, and a run that was killed
in the middle of an epoch continues with the batches that it had not seen.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader

from mpfgvc.data.photos import Batch, Collate, Key, OnError, Photos
from mpfgvc.data.samples import Sample
from mpfgvc.data.transforms import Transform
from mpfgvc.errors import ConfigError, DataError
from mpfgvc.seeding import seed_of

__all__ = [
    "Batch",
    "Batches",
    "TrainingLoader",
    "epoch_order",
    "evaluation_loader",
    "steps_per_epoch",
    "worker_count",
]


class Batches:
    """The batches of a DataLoader; a photograph that ends the run ends it here, with a DataError."""

    def __init__(self, loader: DataLoader[Batch | str]) -> None:
        self.loader = loader

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        for batch in self.loader:
            if isinstance(batch, str):
                raise DataError(batch)
            yield batch


class TrainingLoader:
    """This process's share of each training batch, epoch by epoch.

    `batch_size` counts the photographs of one optimiser step over all processes and must
    be a multiple of `world`; this one takes every `world`-th from `rank` on. `steps` is
    the number of batches of a whole epoch. Workers live from the first epoch to the last.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        transform: Transform,
        *,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        workers: int = 0,
        on_error: OnError = "raise",
    ) -> None:
        if not samples:
            raise DataError("there are no training photographs; check data.root and data.validation")
        if batch_size % world:
            raise ConfigError(f"batch_size must be a multiple of the {world} processes, got {batch_size}")
        self.order = _Order(len(samples), batch_size=batch_size, seed=seed, rank=rank, world=world)
        photos = Photos(samples, transform, seed=seed, on_error=on_error, replace_broken=True)
        self.batches = Batches(
            _loader(photos, self.order, workers, Collate(transform.image_size, on_error, True))
        )

    @property
    def steps(self) -> int:
        """Optimiser steps of a whole epoch."""
        return self.order.steps

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """The batches of one epoch from `first_step` on. Raises DataError for a broken photograph."""
        self.order.set_epoch(epoch, first_step)
        yield from self.batches


def evaluation_loader(
    samples: Sequence[Sample],
    transform: Transform,
    *,
    batch_size: int,
    rank: int = 0,
    world: int = 1,
    workers: int = 0,
    on_error: OnError = "raise",
    seed: int | None = None,
) -> Batches:
    """The samples `rank`, `rank + world`, ... in order, each once: shards without padding.

    A `transform` that draws at random needs a `seed`, and then shows each sample always the same way.
    Unreadable photographs end the run or are left out. `batch_size` is that of this process.
    """
    keys = [(0, index) for index in range(rank, len(samples), world)]
    batches = [keys[start : start + batch_size] for start in range(0, len(keys), batch_size)]
    photos = Photos(samples, transform, seed=seed, on_error=on_error, replace_broken=False)
    return Batches(_loader(photos, batches, workers, Collate(transform.image_size, on_error, False)))


def epoch_order(count: int, *, batch_size: int, seed: int, epoch: int, world: int = 1) -> list[list[int]]:
    """The indices of each whole batch of an epoch, of all processes together; a function of (seed, epoch)."""
    generator = torch.Generator().manual_seed(seed_of(seed, epoch))
    order: list[int] = torch.randperm(count, generator=generator).tolist()
    if count < batch_size:  # one batch, filled up so that every process gets as many
        whole = count + -count % world
        return [[order[place % count] for place in range(whole)]]
    starts = range(0, steps_per_epoch(count, batch_size) * batch_size, batch_size)
    return [order[start : start + batch_size] for start in starts]


def steps_per_epoch(count: int, batch_size: int) -> int:
    """Whole batches in an epoch of `count` photographs; a set smaller than a batch is one batch."""
    return max(1, count // batch_size)


def worker_count(workers: int | None, *, processes: int = 1, model_on_cpu: bool = False) -> int:
    """Loader processes for each of the `processes` of this machine.

    null = as many as there are cores for each, at most 8. Where a model that is only
    evaluated runs on the CPU itself (`model_on_cpu`), one for every four cores: it takes
    all of them, and waits at every step for the threads that a worker has pushed aside.
    """
    if workers is not None:
        return workers
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    own = cores // processes
    return min(8, own // 4) if model_on_cpu else max(1, min(8, own))


class _Order:
    """The batches of keys of one epoch; `set_epoch` says of which, and where to begin."""

    def __init__(self, count: int, *, batch_size: int, seed: int, rank: int, world: int) -> None:
        self.count, self.batch_size, self.seed = count, batch_size, seed
        self.rank, self.world = rank, world
        self.steps = steps_per_epoch(count, batch_size)
        self.set_epoch(0, 0)

    def set_epoch(self, epoch: int, first_step: int) -> None:
        self.current, self.first_step = epoch, first_step

    def __len__(self) -> int:
        return self.steps - self.first_step

    def __iter__(self) -> Iterator[list[Key]]:
        batches = epoch_order(
            self.count, batch_size=self.batch_size, seed=self.seed, epoch=self.current, world=self.world
        )
        for indices in batches[self.first_step :]:
            yield [(self.current, index) for index in indices[self.rank :: self.world]]


def _loader(
    photos: Photos, batches: _Order | list[list[Key]], workers: int, collate: Collate
) -> DataLoader[Batch | str]:
    loader: DataLoader[Any] = DataLoader(
        photos,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=collate,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # else every epoch would draw from the global one
    )
    return loader
