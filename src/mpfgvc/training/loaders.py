"""Every loader of a run: random photographs for stage 1, fixed ones for the rest, embeddings for stage 2."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count, islice

from jaxtyping import Float, Int
from torch import Tensor

from mpfgvc.config import DataConfig
from mpfgvc.data.loading import ONE_PROCESS, EvaluationLoader, TrainingLoader, epoch_batches, steps_per_epoch
from mpfgvc.data.preprocessing import Preprocessing
from mpfgvc.data.samples import Samples
from mpfgvc.data.transforms import Transform, eval_transform, train_transform
from mpfgvc.processes import Processes, seed_of


@dataclass(frozen=True, kw_only=True)
class Loaders:
    """Makes the loaders of one run. `batch_size` is that of stage 1, over all processes."""

    settings: DataConfig
    preprocessing: Preprocessing
    batch_size: int
    seed: int
    processes: Processes
    model_on_cpu: bool
    tell: Callable[[str], None]
    """Called with a line about each photograph that is skipped in training."""

    def training(self, samples: Samples) -> TrainingLoader:
        """Random crops in random order."""
        return TrainingLoader(
            samples,
            train_transform(self.preprocessing, self.settings.augment),
            batch_size=self.batch_size,
            seed=self.seed,
            processes=self.processes,
            workers=self.settings.workers,
            on_error=self.settings.on_error,
            tell=self.tell,
        )

    def evaluation(self, samples: Samples) -> EvaluationLoader:
        """Photographs as in the test, in order."""
        return self._in_order(samples, eval_transform(self.preprocessing), seed=None)

    def views(self, samples: Samples, number: int) -> list[EvaluationLoader]:
        """The photographs as in the test, then `number` - 1 times as stage 1 might show them, in order.

        Index i of the second loader is a view of photograph i modulo their number.
        """
        plain = self.evaluation(samples)
        if number == 1:
            return [plain]
        transform = train_transform(self.preprocessing, self.settings.augment)
        repeated = samples.take([*range(len(samples))] * (number - 1))
        random = self._in_order(repeated, transform, seed=seed_of(self.seed, "views"))
        return [plain, random]

    def _in_order(self, samples: Samples, transform: Transform, *, seed: int | None) -> EvaluationLoader:
        return EvaluationLoader(
            samples,
            transform,
            batch_size=self.batch_size,
            processes=self.processes,
            workers=self.settings.workers,
            model_on_cpu=self.model_on_cpu,
            on_error=self.settings.on_error,
            seed=seed,
        )


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
        for own in epoch_batches(
            len(self.labels),
            batch_size=self.batch_size,
            seed=self.seed,
            epoch=epoch,
            first_step=first_step,
            processes=self.processes,
        ):
            yield self.embeddings[own], self.labels[own]


class OneLongEpoch:
    """Batches of embeddings over as many epochs as `steps` need, taken as one epoch."""

    def __init__(self, loader: EmbeddingLoader, *, steps: int):
        self.loader = loader
        self.steps = steps

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches from `first_step` on."""
        inner, skipped = divmod(first_step, self.loader.steps)
        batches = (
            batch for number in count(inner) for batch in self.loader.epoch(number, skipped if number == inner else 0)
        )
        return islice(batches, self.steps - first_step)
