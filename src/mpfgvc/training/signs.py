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

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from mpfgvc.config import StageConfig
from mpfgvc.data.samples import counted
from mpfgvc.processes import core_count

CHANCE = 0.01
FALL = 0.01
"""Of the first epoch's loss."""
WAITING, LEAST_WAIT, LEAST_STEPS = 0.5, 10.0, 5
_RATES = {"stage1": "stage1.lr and stage1.tower_lr", "stage2": "stage2.lr"}


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
    """Seconds in which a step waited for its batch, without the first of the epoch, which starts the loaders."""
    seconds: float
    """Of the epoch without that first wait."""
    steps: int


@dataclass
class EarlySigns:
    """Looks at the epochs of a run and tells what it sees. `photographs` counts those of each class."""

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
        if facts.stage in _RATES:
            for kind, line in self._signs(facts, settings):
                if kind not in self.said:
                    self.said[kind] = line
                    self.tell(line)

    def _signs(self, facts: EpochFacts, settings: StageConfig) -> Iterator[tuple[str, str]]:
        """Every sign of an epoch: its kind and its line."""
        stage, epoch = facts.stage, facts.epoch
        if facts.waited > max(WAITING * facts.seconds, LEAST_WAIT) and facts.steps >= LEAST_STEPS:
            cores, what = core_count(), f"{100 * facts.waited / facts.seconds:.0f} % of its time"
            more = f"set data.workers higher: it is {self.workers}, and there are {cores} cores"
            smaller = "store smaller photographs, about twice model.image_tower.image_size: data.workers is "
            way = more if self.workers < cores else f"{smaller}{self.workers} on {cores} cores"
            yield "loader", f"{stage} waits for photographs {what}; {way}"
        if epoch < 2 or epoch <= settings.warmup_epochs + 1:
            return
        first, halfway = facts.first_loss, (1 + max(self.photographs) / sum(self.photographs)) / 2
        if first is not None and facts.accuracy < halfway and facts.loss >= (1 - FALL) * first:
            what = f"the loss does not fall, {first:.4g} in epoch 1 and {facts.loss:.4g} in epoch {epoch}"
            rates = f"{_RATES[stage]} ({stage}.lr is {settings.lr:g})"
            way = f"lower {rates}" if facts.loss > (1 + FALL) * first else f"try ten times more, or less, of {rates}"
            yield "loss", f"{stage}: {what}; {way}"
        if facts.predicted is None:
            return
        counts = zip(self.classes, facts.predicted, self.photographs, strict=True)
        likely = CHANCE / len(self.classes)
        if names := [name for name, guesses, n in counts if guesses == 0 and (1 - facts.accuracy) ** n < likely]:
            what = counted(f"{stage}, epoch {epoch}: classes that are never predicted", names, len(self.classes))
            way = f"or set {stage}.class_weights to balanced if they have fewer than others"
            yield "never predicted", f"{what}; look at their photographs (mpfgvc data check), {way}"
