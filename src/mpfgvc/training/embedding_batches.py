"""Batches of embeddings for stage 2, the same on any number of processes."""

from collections.abc import Iterator

from torch import Tensor

from mpfgvc.data.loading import epoch_order, steps_per_epoch
from mpfgvc.inference.embeddings import Embeddings


class EmbeddingLoader:
    """Shuffled batches of embeddings, with the interface of a training loader.

    Each process holds them all and takes every `world`-th of a batch from `rank` on.
    """

    def __init__(self, embeddings: Embeddings, *, batch_size: int, seed: int, rank: int = 0, world: int = 1):
        self.embeddings = embeddings
        self.batch_size = batch_size
        self.seed = seed
        self.rank, self.world = rank, world
        self.steps = steps_per_epoch(len(embeddings), batch_size)

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Embeddings and labels of an epoch's batches from `first_step` on."""
        batches = epoch_order(
            len(self.embeddings), batch_size=self.batch_size, seed=self.seed, epoch=epoch, world=self.world
        )
        for indices in batches[first_step:]:
            own = indices[self.rank :: self.world]
            yield self.embeddings.values[own], self.embeddings.labels[own]
