"""Photographs as a torch dataset, and the batches that a DataLoader makes of them.

What happens to a photograph in training depends on (seed, epoch, its index) only, never on the worker
or the process that reads it. A fixed transform draws nothing, so a batch of an evaluation is read on
several threads.

A photograph that cannot be read is not an exception but a value (`Unreadable`), because an exception
would arrive in the main process as a worker's traceback.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from mpfgvc.data.samples import CHUNK, Photograph, Sample, labels_at
from mpfgvc.data.transforms import Transform
from mpfgvc.errors import DataError
from mpfgvc.seeding import seed_of, seeded

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


@dataclass(frozen=True)
class Item:
    """One photograph, or with `image` None nothing in its place, and what could not be read on the way."""

    image: Float[Tensor, "3 height width"] | None
    index: int
    unreadable: tuple[Unreadable, ...] = ()


class Photos(Dataset[Item]):
    """Photographs by (epoch, index): read, transformed, with the randomness of that pair.

    `seed` None promises a transform without randomness. `substitutes` gives the indices of the photographs
    that may take the place of an unreadable one, in the order in which they are tried.
    """

    def __init__(
        self,
        photographs: Sequence[Photograph],
        transform: Transform,
        *,
        seed: int | None,
        substitutes: ClassMembers | None = None,
    ) -> None:
        self.photographs = photographs
        self.transform = transform
        self.seed = seed
        self.substitutes = substitutes

    def __len__(self) -> int:
        return len(self.photographs)

    def __getitem__(self, key: Key) -> Item:
        """The photograph of (epoch, index), or a readable substitute, or none."""
        epoch, index = key
        item = self._read(epoch, index)
        if item.image is not None or self.substitutes is None:
            return item
        unreadable = [*item.unreadable]
        for other in self.substitutes.others(index):
            substitute = self._read(epoch, other)
            if substitute.image is not None:
                return replace(substitute, unreadable=tuple(unreadable))
            unreadable += substitute.unreadable
        return Item(None, index, tuple(unreadable))

    def __getitems__(self, keys: list[Key]) -> list[Item]:
        """A whole batch, in the order of `keys`, read on as many threads as torch has here.

        In the main process these are the model's, idle meanwhile; in a loader process it is one.
        Random transforms share torch's one generator and take turns.
        """
        threads = torch.get_num_threads()
        if self.seed is not None or threads == 1:
            return [self[key] for key in keys]
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(self.__getitem__, keys))

    def _read(self, epoch: int, index: int) -> Item:
        try:
            image = self.photographs[index].read(at_least=self.transform.at_least)
        except DataError as error:
            return Item(None, index, (Unreadable(index, str(error)),))
        if self.seed is None:
            return Item(self.transform(image), index)
        with seeded(seed_of(self.seed, epoch, index)):
            return Item(self.transform(image), index)


@dataclass(frozen=True)
class ClassMembers:
    """For each training photograph the others of its class, looked for when they are needed."""

    samples: Sequence[Sample]

    def others(self, index: int) -> Iterator[int]:
        """The other photographs of the class, beginning with the next."""
        count, label = len(self.samples), self.samples[index].label
        for first, stop in ((index + 1, count), (0, index)):
            for start in range(first, stop, CHUNK):
                places = range(start, min(start + CHUNK, stop))
                same = np.flatnonzero(labels_at(self.samples, places) == label)
                yield from (same + start).tolist()


@dataclass(frozen=True)
class Collate:
    """Items to a batch; `image_size` is the (height, width) of an empty one."""

    image_size: tuple[int, int]

    def __call__(self, items: list[Item]) -> Batch:
        """The batch of those items that have an image."""
        read = [(item.image, item.index) for item in items if item.image is not None]
        return Batch(
            images=self._stack([image for image, _ in read]),
            indices=tuple(index for _, index in read),
            unreadable=tuple(failure for item in items for failure in item.unreadable),
        )

    def _stack(self, images: list[Tensor]) -> Tensor:
        """The images in one tensor; in a loader process, in shared memory from the start.

        Without that, torch would move them there in a thread of the queue, where an error (Docker gives
        64 MB of shared memory) is printed and lost, and the main process waits forever.
        """
        shape = (len(images), 3, *self.image_size)
        if not images or get_worker_info() is None:
            return torch.stack(images) if images else torch.zeros(shape)
        size = len(images) * images[0].numel()
        storage = images[0]._typed_storage()._new_shared(size, device="cpu")  # type: ignore[no-untyped-call]
        return torch.stack(images, out=images[0].new(storage).resize_(shape))
