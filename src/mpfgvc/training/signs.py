"""Signs that a training goes wrong, said while it can still be changed: one line each, and each once.

    never predicted   In a whole epoch no photograph was taken for a class. If its n photographs were as easy
                      as the others, the chance of that would be (1 - accuracy)^n. It is said below
                      CHANCE / classes, so that healthy classes give one false line in a hundred epochs.
    loss              After the warm-up and one epoch more, the loss is not FALL below that of the first
                      epoch, and the accuracy is less than halfway from that of naming the largest class to 1.
                      A loss that is flat because everything is learned is no sign.
    loader            Steps wait for photographs longer than they compute: for more than half of an epoch, and
                      for LEAST_WAIT seconds. Only then can a faster loader halve the time.

A stage of one epoch is too short for the first two. The start from features is one long epoch and has none.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import TypeVar

from mpfgvc.config import StageConfig
from mpfgvc.data.samples import counted
from mpfgvc.processes import core_count

CHANCE = 0.01
FALL = 0.01
"""Of the first epoch's loss."""
WAITING, LEAST_WAIT, LEAST_STEPS = 0.5, 10.0, 5

Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class EpochFacts:
    """What is known of one epoch of a stage; `epoch` counts from 1."""

    stage: str
    epoch: int
    first_loss: float | None
    """Loss of the first epoch of the stage."""
    loss: float
    accuracy: float
    predicted: Sequence[int] | None
    """How many training photographs were taken for each class; None if the epoch was not seen whole."""
    waited: float
    """Seconds in which a step waited for its batch, without the first of the epoch."""
    seconds: float
    """Of the epoch without that first wait."""
    steps: int


@dataclass
class EarlySigns:
    """Looks at each epoch of a run and tells what it sees. `photographs` counts those of each class."""

    classes: Sequence[str]
    photographs: Sequence[int]
    workers: int
    tell: Callable[[str], None]
    said: dict[str, str] = field(default_factory=dict)
    """The lines by their kind."""
    epochs: int = 0
    """How many were looked at."""

    def look(self, facts: EpochFacts, settings: StageConfig) -> None:
        """Say what is new about an epoch of a stage with these settings."""
        self.epochs += 1
        if facts.stage not in _RATES:
            return
        is_settled = facts.epoch >= 2 and facts.epoch > settings.warmup_epochs + 1
        found: Mapping[str, str | None] = {
            "loader": self._loader(facts),
            "loss": self._loss(facts, settings) if is_settled else None,
            "never predicted": self._never_predicted(facts) if is_settled else None,
        }
        for kind, line in found.items():
            if line is not None and kind not in self.said:
                self.said[kind] = line
                self.tell(line)

    def _never_predicted(self, facts: EpochFacts) -> str | None:
        if facts.predicted is None:
            return None
        likely = CHANCE / len(self.classes)
        names = [
            name
            for name, guesses, count in zip(self.classes, facts.predicted, self.photographs, strict=True)
            if guesses == 0 and (1 - facts.accuracy) ** count < likely
        ]
        if not names:
            return None
        what = f"{facts.stage}, epoch {facts.epoch}: classes that are never predicted"
        way = "look at their photographs (mpfgvc data check)"
        return (
            f"{counted(what, names, len(self.classes))}; {way}, "
            f"or set {facts.stage}.class_weights to balanced if they have fewer than others"
        )

    def _loss(self, facts: EpochFacts, settings: StageConfig) -> str | None:
        first = facts.first_loss
        halfway = (1 + max(self.photographs) / sum(self.photographs)) / 2
        if first is None or facts.accuracy >= halfway or facts.loss < (1 - FALL) * first:
            return None
        what = f"{facts.stage}: the loss does not fall, {first:.4g} in epoch 1 and {facts.loss:.4g} in epoch"
        rates = f"{_RATES[facts.stage]} ({facts.stage}.lr is {settings.lr:g})"
        way = f"lower {rates}" if facts.loss > (1 + FALL) * first else f"try ten times more, or less, of {rates}"
        return f"{what} {facts.epoch}; {way}"

    def _loader(self, facts: EpochFacts) -> str | None:
        is_slow = facts.waited > WAITING * facts.seconds and facts.waited >= LEAST_WAIT
        if not is_slow or facts.steps < LEAST_STEPS:
            return None
        share, cores = facts.waited / facts.seconds, core_count()
        what = f"{facts.stage} waits for photographs {100 * share:.0f} % of its time"
        if self.workers < cores:
            return f"{what}; set data.workers higher: it is {self.workers}, and there are {cores} cores"
        return (
            f"{what}, with {self.workers} loader processes (data.workers) on {cores} cores; "
            "store smaller photographs, about twice model.image_tower.image_size"
        )


_RATES = {"stage1": "stage1.lr and stage1.tower_lr", "stage2": "stage2.lr"}


class Waiting:
    """Passes on the batches of an epoch, and keeps the seconds in which they were waited for.

    The first stands apart: it waits for loader processes that start.
    """

    def __init__(self) -> None:
        self.waits: list[float] = []

    @property
    def first(self) -> float:
        """Seconds until the first batch."""
        return self.waits[0]

    @property
    def seconds(self) -> float:
        """Seconds of all later batches."""
        return sum(self.waits[1:])

    def over(self, batches: Iterable[Item]) -> Iterator[Item]:
        """The same batches."""
        batches = iter(batches)
        while True:
            asked = perf_counter()
            batch = next(batches, None)
            self.waits.append(perf_counter() - asked)
            if batch is None:
                return
            yield batch
