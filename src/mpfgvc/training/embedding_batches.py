"""Batches of embeddings for stage 2, the same on any number of processes."""

from collections.abc import Iterator

from jaxtyping import Float, Int
from torch import Tensor

from mpfgvc.data.loading import ONE_PROCESS, epoch_batches, steps_per_epoch
from mpfgvc.launcher import Processes


class EmbeddingLoader:
    """Shuffled batches of embeddings, with the interface of a training loader.

    Each process holds them all and takes every `world`-th of a batch from `rank` on.
    """

    def __init__(
        self,
        embeddings: Float[Tensor, "photographs width"],
        labels: Int[Tensor, " photographs"],
        *,
        batch_size: int,
        seed: int,
        processes: Processes = ONE_PROCESS,
    ):
        self.embeddings, self.labels = embeddings, labels
        self.batch_size, self.seed, self.processes = batch_size, seed, processes

    @property
    def steps(self) -> int:
        """Optimiser steps of a whole epoch."""
        return steps_per_epoch(len(self.labels), self.batch_size)

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Embeddings and labels of an epoch's batches from `first_step` on."""
        rank, world = self.processes.rank, self.processes.world
        batches = epoch_batches(
            len(self.labels),
            batch_size=self.batch_size,
            seed=self.seed,
            epoch=epoch,
            world=world,
            first_step=first_step,
        )
        for indices in batches:
            own = indices[rank::world]
            yield self.embeddings[own], self.labels[own]
