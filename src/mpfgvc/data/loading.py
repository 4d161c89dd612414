"""Photographs as batches, the same whatever the number of workers and processes.

The order of an epoch depends on (seed, epoch) only, what happens to a photograph in training on (seed,
epoch, its index) only. So one optimiser step sees the same photographs on one process or on four, and a run
that was killed in the middle of an epoch continues with the batches that it had not seen.

A photograph that cannot be read is not an exception but a value (`Unreadable`), because an exception would
arrive in the main process as a worker's traceback. What happens to loader processes from outside (killed,
out of shared memory) is one line, too, and comes where the next batch is taken.
"""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from mpfgvc.config import OnError
from mpfgvc.data.images import reason_only
from mpfgvc.data.samples import Photograph, Samples
from mpfgvc.data.transforms import Transform
from mpfgvc.distributed import seeded
from mpfgvc.errors import ConfigError, DataError, one_line
from mpfgvc.processes import GUARD, Processes, core_count, refuse_unguarded_script, seed_of

ONE_PROCESS = Processes()
Key = tuple[int, int]  # (epoch, index of the photograph)


@dataclass(frozen=True)
class Unreadable:
    """A photograph that cannot be read: its index among those of the loader, and the reason in one line."""

    index: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Photographs as the tower expects them.

    `indices` point into the photographs that the loader was made of, one for each image. A batch may be
    smaller than asked for, or empty, if some of its photographs are unreadable.
    """

    images: Float[Tensor, "batch 3 height width"]
    indices: tuple[int, ...]
    unreadable: tuple[Unreadable, ...] = ()

    def pin_memory(self) -> Batch:
        """The batch in page-locked memory, from which a GPU copies faster."""
        return replace(self, images=self.images.pin_memory())


class Photos(Dataset[Batch]):
    """Batches by a list of (epoch, index): read, transformed, with the randomness of that pair.

    `seed` None promises a transform without randomness: such a batch is read on as many threads as torch has
    here. In the main process these are the model's, idle meanwhile; in a loader process it is one. With
    `labels`, the next readable photograph of its class takes the place of an unreadable one.
    """

    def __init__(
        self,
        photographs: Sequence[Photograph],
        transform: Transform,
        *,
        seed: int | None,
        labels: Int[Tensor, " photographs"] | None = None,
    ) -> None:
        self.photographs, self.transform, self.seed, self.labels = photographs, transform, seed, labels

    def __len__(self) -> int:
        return len(self.photographs)

    def __getitem__(self, keys: list[Key]) -> Batch:
        """The batch of these photographs, in their order."""
        threads = torch.get_num_threads()
        if self.seed is not None or threads == 1:  # random transforms share torch's one generator
            items = [self._item(key) for key in keys]
        else:
            with ThreadPoolExecutor(threads) as pool:
                items = list(pool.map(self._item, keys))
        found = [(index, image) for index, image, _ in items if image is not None]
        return Batch(
            images=_stacked([image for _, image in found], self.transform.image_size),
            indices=tuple(index for index, _ in found),
            unreadable=tuple(failure for _, _, failures in items for failure in failures),
        )

    def _item(self, key: Key) -> tuple[int, Tensor | None, list[Unreadable]]:
        """The photograph or what takes its place, and what could not be read on the way."""
        epoch, wanted = key
        failures: list[Unreadable] = []
        for index in self._candidates(wanted):
            try:
                return index, self._image(epoch, index), failures
            except DataError as error:
                failures.append(Unreadable(index, str(error)))
        return wanted, None, failures

    def _candidates(self, index: int) -> Iterator[int]:
        yield index
        if self.labels is not None:
            same = torch.nonzero(self.labels == self.labels[index]).flatten()
            yield from [*same[same > index].tolist(), *same[same < index].tolist()]

    def _image(self, epoch: int, index: int) -> Tensor:
        image = self.photographs[index].read(at_least=self.transform.at_least)
        if self.seed is None:
            return self.transform(image)
        with seeded(seed_of(self.seed, epoch, index)):
            return self.transform(image)


class TrainingLoader:
    """This process's share of each training batch, epoch by epoch.

    `batch_size` counts the photographs of one optimiser step over all processes and must be a multiple of
    their number; this one takes every `world`-th from `rank` on. With `on_error="skip"` an unreadable
    photograph gives way to the next readable one of its class, so batches keep their size, and `tell` is
    called with a line when it is first met. Workers live from the first epoch to the last.
    """

    def __init__(
        self,
        samples: Samples,
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
        self.samples, self.labels, self.on_error, self.tell = samples, labels_of(samples), on_error, tell
        self.batch_size, self.seed, self.processes = batch_size, seed, processes
        self.steps = steps_per_epoch(len(samples), batch_size)
        self.skipped: set[int] = set()
        self.order: list[list[Key]] = []
        photos = Photos(samples, transform, seed=seed, labels=self.labels if on_error == "skip" else None)
        self.batches = _data_loader(photos, self.order, worker_count(workers, processes=processes.local))

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[tuple[Tensor, Int[Tensor, " batch"]]]:
        """Images and labels of the batches of one epoch from `first_step` on.

        Raises DataError for an unreadable photograph, or where a whole class is unreadable.
        """
        batches = epoch_batches(
            len(self.samples),
            batch_size=self.batch_size,
            seed=self.seed,
            epoch=epoch,
            first_step=first_step,
            processes=self.processes,
        )
        self.order[:] = [[(epoch, index) for index in batch] for batch in batches]
        for keys, batch in zip(list(self.order), _batches(self.batches), strict=True):
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
    ) -> None:
        own = [(0, index) for index in range(processes.rank, len(photographs), processes.world)]
        order = [own[start : start + batch_size] for start in range(0, len(own), batch_size)]
        count = worker_count(workers, processes=processes.local, model_on_cpu=model_on_cpu)
        self.photographs, self.on_error = photographs, on_error
        self.batches = _data_loader(Photos(photographs, transform, seed=None), order, count)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        for batch in _batches(self.batches):
            if batch.unreadable and self.on_error == "raise":
                raise DataError(batch.unreadable[0].reason)
            yield batch


def epoch_batches(
    count: int, *, batch_size: int, seed: int, epoch: int, first_step: int = 0, processes: Processes = ONE_PROCESS
) -> list[list[int]]:
    """This process's share of each whole batch of an epoch from `first_step` on, as indices.

    The batches depend on (seed, epoch) only.
    """
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed_of(seed, epoch)))
    if count < batch_size:  # one batch, filled up so that every process gets the same number
        order = order[torch.arange(count + -count % processes.world) % count]
        batch_size = len(order)
    whole = order[: len(order) // batch_size * batch_size].view(-1, batch_size)
    own: list[list[int]] = whole[first_step:, processes.rank :: processes.world].tolist()
    return own


def steps_per_epoch(count: int, batch_size: int) -> int:
    """Whole batches in an epoch of `count` photographs; a set smaller than a batch is one batch."""
    return max(1, count // batch_size)


def labels_of(samples: Samples) -> Int[Tensor, " samples"]:
    """The label of each sample, to be indexed by the `indices` of a batch."""
    return torch.from_numpy(samples.labels)


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


def _stacked(images: list[Tensor], image_size: tuple[int, int]) -> Float[Tensor, "batch 3 height width"]:
    """The images in one tensor; in a loader process, in shared memory from the start.

    Without that, torch would move them there in a thread of the queue, where an error (Docker gives
    64 MB of shared memory) is printed and lost, and the main process waits forever.
    """
    shape = (len(images), 3, *image_size)
    if not images or get_worker_info() is None:
        return torch.stack(images) if images else torch.zeros(shape)
    size = len(images) * images[0].numel()
    storage = images[0]._typed_storage()._new_shared(size, device="cpu")  # type: ignore[no-untyped-call]
    return torch.stack(images, out=images[0].new(storage).resize_(shape))


def _data_loader(photos: Photos, order: list[list[Key]], workers: int) -> DataLoader[Batch]:
    if workers > 0:
        refuse_unguarded_script()
    loader: DataLoader[Any] = DataLoader(
        photos,
        batch_size=None,
        sampler=order,  # torch asks for single items, but passes on whatever comes
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # else every epoch would draw from the global one
    )
    return loader


def _batches(loader: DataLoader[Batch]) -> Iterator[Batch]:
    """The batches of a loader. Raises DataError for what happens to its processes from outside."""
    is_main = threading.current_thread() is threading.main_thread() and hasattr(signal, "SIGCHLD")
    handler = signal.getsignal(signal.SIGCHLD) if is_main else None
    processes: list[Any] = []
    try:
        batches = iter(loader)
        if handler is not None:  # torch's own would raise wherever the main process stands: in a checkpoint
            signal.signal(signal.SIGCHLD, handler)
        processes = getattr(batches, "_workers", [])
        for batch in batches:
            yield batch
            if any(process.exitcode for process in processes):
                raise RuntimeError("DataLoader worker exited unexpectedly")
    except (RuntimeError, OSError, EOFError) as error:
        line = _what_to_do(error, [process.exitcode or 0 for process in processes])
        if line is None:
            raise
        raise DataError(line) from None


def _what_to_do(error: Exception, ended: list[int]) -> str | None:
    """What to do about a loader process that failed; None for an error that is not of this kind."""
    text = f"{one_line(error, 2000)} {error.__cause__}"
    if re.search(r"No space left|shared memory|bus error", text) or -getattr(signal, "SIGBUS", 999) in ended:
        rule = "there is too little shared memory (/dev/shm) for the loader processes"
        return f"{rule}; give the container more with --shm-size 2g, or set data.workers 0"
    lost = "DataLoader worker" in text or isinstance(error, ConnectionError | EOFError)
    if not ended or not lost:
        return None
    if max(ended) > 0:
        rule = f"one of {len(ended)} loader processes ended, probably because it ran your script again"
        return f"{rule}; put the script's calls under {GUARD} or set data.workers 0"
    rule = f"one of {len(ended)} loader processes was killed, probably because memory ran out"
    return f"{rule}; lower data.workers (0 uses none), and continue a training with --resume"
