"""From logits to answers under rules: unsure, sets, a genus for a species, some classes only; no torch.

    AnswerRules(abstain=0.05)                  no answer where more than 5 % of such answers would be wrong
    AnswerRules(abstain=0.05, back_off=True)   the genus instead, where that is sure enough
    AnswerRules(set=0.9)                       the classes that hold the right one in 90 % of the cases
    AnswerRules(within=("genus Larus",))       only classes of a branch, or of a list

The shares are promises from the model's calibration (calibration.py). They were found among all classes, so
with `within` they are no longer exact.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mpfgvc.data.taxonomy import Taxonomy, classes_within
from mpfgvc.errors import ConfigError
from mpfgvc.inference.calibration import Calibration, softmax
from mpfgvc.terms import CLASS, Source


@dataclass(frozen=True, kw_only=True)
class Guess:
    """A class and how probable the model takes it to be, 0..1."""

    label: str
    probability: float


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The answer to a photograph under rules (answering.py)."""

    label: str | None
    """A class, or a group of the taxonomy; None: unsure."""
    level: str = CLASS
    """The level of the label: class, or one of the taxonomy."""
    classes: tuple[str, ...] | None = None
    """The set of classes that holds the right one in the asked share of the cases; None if not asked for."""


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The guesses for one file, best first; for one that cannot be read there are none, but a `failure`."""

    path: Path
    guesses: tuple[Guess, ...]
    failure: str = ""
    answer: Answer | None = None
    """None where no rules asked for one."""


@dataclass(frozen=True, kw_only=True)
class AnswerRules:
    """What an answer must keep. Raises ConfigError for a share that is not between 0 and 1."""

    abstain: float | None = None
    """The largest share of wrong answers; None = always the best guess. 0..1"""
    back_off: bool = False
    """With `abstain`: where the class is unsure, answer with the finest group that is sure."""
    set: float | None = None
    """The share of photographs whose set shall hold the right class; None = no sets. 0..1"""
    within: tuple[str, ...] = ()
    """Classes and groups that the answer may be; empty = all."""

    def __post_init__(self) -> None:
        for name, share in (("abstain", self.abstain), ("set", self.set)):
            if share is not None and not 0 < share < 1:
                raise ConfigError(f"{name} must be a share between 0 and 1, such as 0.05, got {share}")
        if self.back_off and self.abstain is None:
            raise ConfigError("back-off needs abstain: the share of answers that may be wrong")

    @property
    def needs_calibration(self) -> bool:
        """Whether these rules hold a promise about shares."""
        return self.abstain is not None or self.set is not None


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """What a model is, whatever computes it; `name` is what errors call it."""

    name: str
    classes: tuple[str, ...]
    digest: str = ""
    """SHA-256 of its weights, "" if unknown."""
    prediction: Source = "fusion"
    """The source of logits that it answers with."""
    calibration: Calibration | None = None
    taxonomy: Taxonomy | None = None


class Answering:
    """Rules for the answers of one source of a model. Raises ConfigError for rules that it cannot keep.

    `source` None: what the model answers with. `notes` are lines for people about what the rules cannot
    promise.
    """

    def __init__(self, facts: ModelFacts, rules: AnswerRules | None = None, *, source: Source | None = None) -> None:
        self.facts, self.rules = facts, AnswerRules() if rules is None else rules
        self.source: Source = facts.prediction if source is None else source
        self.calibration = None if facts.calibration is None else facts.calibration.of(self.source)
        self.temperature = 1.0 if self.calibration is None else self.calibration.temperature
        """Divides the logits before the softmax; 1 without a calibration."""
        self._within = classes_within(self.rules.within, facts.classes, facts.taxonomy)
        self._thresholds, self._set_bound = self._promises()

    @property
    def notes(self) -> tuple[str, ...]:
        """What is said once, before the first answer."""
        notes = []
        if self.rules.within and self.rules.needs_calibration:
            notes.append("the shares of abstain and set were found among all classes, not within some")
        if self.rules.abstain is not None and min(self._thresholds) > 1:
            what = f"no answer is sure enough for abstain {self.rules.abstain:g}, so all are unsure"
            notes.append(f"{what}; allow a larger share, or calibrate with more photographs")
        if self.rules.set is not None and self._set_bound == 0:
            what = f"too few photographs for set {self.rules.set:g}, so each set holds all classes"
            notes.append(f"{what}; ask for a smaller share, or calibrate with more photographs")
        return tuple(notes)

    def probabilities(self, logits: NDArray[np.floating]) -> NDArray[np.float64]:
        """Of each class, 0 for those that the rules leave out. (batch, classes)"""
        if self.rules.within:
            logits = np.where(self._within, logits, -np.inf)
        return softmax(logits, self.temperature)

    def guesses(self, probabilities: NDArray[np.float64], top: int) -> list[Guess]:
        """The `top` most probable classes of a row, best first."""
        order = np.argsort(-probabilities, kind="stable")
        if self.rules.within:
            order = order[self._within[order]]
        classes = self.facts.classes
        return [Guess(label=classes[index], probability=float(probabilities[index])) for index in order[:top]]

    def prediction(self, path: Path, logits: NDArray[np.floating], top: int) -> Prediction:
        """The guesses for one photograph, and its answer if the rules ask for one. (classes,)"""
        (row,) = self.probabilities(logits[None])
        answer = self.answer(row) if self.rules.needs_calibration else None
        return Prediction(path=path, guesses=tuple(self.guesses(row, top)), answer=answer)

    def answer(self, probabilities: NDArray[np.float64]) -> Answer:
        """The answer to a row of probabilities; the best guess if no rule asks for more."""
        level, label = self._sure_label(probabilities)
        return Answer(label=label, level=level, classes=self._set(probabilities))

    def _sure_label(self, probabilities: NDArray[np.float64]) -> tuple[str, str | None]:
        """The finest level whose best group is sure enough, and that group; None where no level is."""
        if self.rules.abstain is None:
            return CLASS, self.facts.classes[int(probabilities.argmax())]
        for index, bound in enumerate(self._thresholds):
            level, groups, shares = self._level(index, probabilities)
            if shares.max() >= bound:
                return level, groups[int(shares.argmax())]
        return CLASS, None

    def _level(self, index: int, probabilities: NDArray[np.float64]) -> tuple[str, Sequence[str], NDArray[np.float64]]:
        """A level, its groups and their probabilities; 0 is that of the classes."""
        taxonomy = self.facts.taxonomy
        if index == 0 or taxonomy is None:
            return CLASS, self.facts.classes, probabilities
        shares = taxonomy.probabilities(index - 1, probabilities[None])[0]
        return taxonomy.levels[index - 1], taxonomy.groups_of(index - 1), shares

    def _set(self, probabilities: NDArray[np.float64]) -> tuple[str, ...] | None:
        """The classes of the set, most probable first: never empty, for the best guess is always in it."""
        if self.rules.set is None:
            return None
        order = np.argsort(-probabilities, kind="stable")
        if self.rules.within:
            order = order[self._within[order]]
        count = max(1, int((probabilities[order] >= self._set_bound).sum()))
        return tuple(self.facts.classes[index] for index in order[:count])

    def _promises(self) -> tuple[tuple[float, ...], float]:
        rules, calibration = self.rules, self.calibration
        if not rules.needs_calibration:
            return (), 0.0
        if calibration is None:
            hint = "calibrate it with mpfgvc calibrate and labelled photographs that it was not trained on"
            raise ConfigError(f"{self.facts.name} does not know how sure its answers are; {hint}")
        if rules.back_off and (self.facts.taxonomy is None or len(calibration.levels) < 2):
            hint = "give one with mpfgvc calibrate --taxonomy FILE"
            raise ConfigError(f"{self.facts.name} has no taxonomy to back off in; {hint}")
        thresholds: tuple[float, ...] = ()
        if rules.abstain is not None:
            thresholds = calibration.thresholds(rules.abstain, back_off=rules.back_off)
        return thresholds, 0.0 if rules.set is None else calibration.set_bound(rules.set)
