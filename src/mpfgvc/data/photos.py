"""One photograph, read and transformed, and a batch of them.

What happens to a photograph in training depends on (seed, epoch, its index)
alone, never on the worker or the process that reads it. A fixed transform draws
nothing, so a batch of an evaluation is read on several threads.

A photograph that cannot be read travels as a value from the worker to the main
process (`Item.failure`, then a `str` in place of a batch), because an exception
would arrive there as a worker's traceback.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.data import Dataset

from mpfgvc.data.samples import Sample
from mpfgvc.data.transforms import Transform
from mpfgvc.errors import DataError
from mpfgvc.seeding import seed_of, seeded

OnError = Literal["raise", "skip"]
Key = tuple[int, int]  # (epoch, index of the sample)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Photographs as the tower expects them, with their classes.

    `indices` point into the samples that the loader was made of; `broken` holds the
    paths of the photographs that could not be read and were replaced or left out.
    A batch of an evaluation may be empty if none of its photographs could be read.
    """

    images: Float[Tensor, "batch 3 height width"]
    labels: Int[Tensor, " batch"]
    indices: Int[Tensor, " batch"]
    broken: tuple[str, ...] = ()

    def pin_memory(self) -> Batch:
        """The batch in page-locked memory, from which a GPU copies faster."""
        images, labels, indices = (part.pin_memory() for part in (self.images, self.labels, self.indices))
        return replace(self, images=images, labels=labels, indices=indices)


@dataclass(frozen=True, kw_only=True)
class Item:
    """One photograph, or with `image` None why there is none."""

    image: Float[Tensor, "3 height width"] | None
    label: int
    index: int
    broken: tuple[str, ...] = ()
    failure: str = ""


class Photos(Dataset[Item]):
    """Photographs by (epoch, index): read, transformed, with the randomness of that pair.

    `seed` None promises a transform without randomness. With `on_error="skip"` and `replace_broken`,
    an unreadable photograph gives way to the next readable one of its class, so batches keep their size.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        transform: Transform,
        *,
        seed: int | None,
        on_error: OnError,
        replace_broken: bool,
    ) -> None:
        self.samples = samples
        self.transform = transform
        self.seed = seed
        self.on_error = on_error
        self.members: dict[int, list[int]] = defaultdict(list)
        if replace_broken:
            for index, sample in enumerate(samples):
                self.members[sample.label].append(index)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: Key) -> Item:
        """The photograph of (epoch, index), or in its place a readable one, or a failure."""
        epoch, index = key
        item = self._read(epoch, index)
        if item.image is not None or self.on_error == "raise":
            return item
        broken = [str(self.samples[index].path)]
        for other in self._others(index):
            substitute = self._read(epoch, other)
            if substitute.image is not None:
                return replace(substitute, broken=tuple(broken))
            broken.append(str(self.samples[other].path))
        return replace(item, broken=tuple(broken))

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
        sample = self.samples[index]
        try:
            image = sample.read(at_least=self.transform.at_least)
        except DataError as error:
            return Item(image=None, label=sample.label, index=index, failure=str(error))
        if self.seed is None:
            return Item(image=self.transform(image), label=sample.label, index=index)
        with seeded(seed_of(self.seed, epoch, index)):
            return Item(image=self.transform(image), label=sample.label, index=index)

    def _others(self, index: int) -> Iterator[int]:
        """The other members of the sample's class, beginning with the next."""
        members = self.members.get(self.samples[index].label, [index])
        start = members.index(index) + 1
        return iter(members[start:] + members[: start - 1])


@dataclass(frozen=True)
class Collate:
    """Items to a batch, or to the one line that ends the run.

    `replace_broken`: an item without an image means that its whole class cannot be read.
    """

    image_size: tuple[int, int]
    on_error: OnError
    replace_broken: bool

    def __call__(self, items: list[Item]) -> Batch | str:
        """The batch of some items, or the line."""
        read = [item for item in items if item.image is not None]
        if len(read) < len(items) and (self.on_error == "raise" or self.replace_broken):
            return next(self._line(item) for item in items if item.image is None)
        images = [item.image for item in read if item.image is not None]
        return Batch(
            images=torch.stack(images) if images else torch.zeros(0, 3, *self.image_size),
            labels=torch.tensor([item.label for item in read], dtype=torch.long),
            indices=torch.tensor([item.index for item in read], dtype=torch.long),
            broken=tuple(path for item in items for path in item.broken),
        )

    def _line(self, item: Item) -> str:
        if self.on_error == "raise":
            return item.failure
        first, count = item.broken[0], len(item.broken)
        return f"no training photograph of a class can be read: {first} and {count - 1} others; replace them"
