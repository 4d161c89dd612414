"""Every loader of a run: the random photographs of stage 1, and the fixed ones of all the rest."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import overload

from mpfgvc.config import DataConfig
from mpfgvc.data.loading import Blocks, EvaluationLoader, TrainingLoader
from mpfgvc.data.preprocessing import Preprocessing
from mpfgvc.data.samples import Sample
from mpfgvc.data.transforms import Transform, eval_transform, train_transform
from mpfgvc.launcher import Processes
from mpfgvc.seeding import seed_of


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

    def training(self, samples: Sequence[Sample]) -> TrainingLoader:
        """Random crops in random order."""
        loader = TrainingLoader(
            samples,
            train_transform(self.preprocessing, self.settings.augment),
            batch_size=self.batch_size,
            seed=self.seed,
            processes=self.processes,
            workers=self.settings.workers,
            on_error=self.settings.on_error,
            tell=self.tell,
        )
        together = self.settings.shuffle_shards
        return loader if together is None else loader.by_blocks(Blocks.of_shards(samples, together))

    def evaluation(self, samples: Sequence[Sample]) -> EvaluationLoader:
        """Photographs as in the test, in order."""
        return self._in_order(samples, eval_transform(self.preprocessing), seed=None)

    def views(self, samples: Sequence[Sample], count: int) -> list[EvaluationLoader]:
        """The photographs as in the test, then `count` - 1 times as stage 1 might show them, in order.

        Index i of the second loader is a view of photograph i modulo their number.
        """
        plain = self.evaluation(samples)
        if count == 1:
            return [plain]
        transform = train_transform(self.preprocessing, self.settings.augment)
        random = self._in_order(_Repeated(samples, count - 1), transform, seed=seed_of(self.seed, "views"))
        return [plain, random]

    def _in_order(
        self, samples: Sequence[Sample], transform: Transform, *, seed: int | None
    ) -> EvaluationLoader:
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


@dataclass(frozen=True)
class _Repeated(Sequence[Sample]):
    """Samples one time after the other, without a copy of them."""

    samples: Sequence[Sample]
    times: int

    def __len__(self) -> int:
        return self.times * len(self.samples)

    @overload
    def __getitem__(self, place: int) -> Sample: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[Sample, ...]: ...
    def __getitem__(self, place: int | slice) -> Sample | tuple[Sample, ...]:
        if isinstance(place, slice):
            return tuple(self[each] for each in range(*place.indices(len(self))))
        if not -len(self) <= place < len(self):
            raise IndexError(place)
        return self.samples[place % len(self.samples)]
