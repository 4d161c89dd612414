"""From logits to answers: probabilities that mean something, unsure, sets, a genus for a species; no torch.

    AnswerRules(abstain=0.05)                  no answer where more than 5 % of such answers would be wrong
    AnswerRules(abstain=0.05, back_off=True)   the genus instead, where that is sure enough
    AnswerRules(set=0.9)                       the classes that hold the right one in 90 % of the cases
    AnswerRules(within=("genus Larus",))       only classes of a branch, or of a list

The shares are promises from the model's calibration, which labelled photographs made that it did not learn from:

    temperature   divides the logits before the softmax, so that of the answers given with 0.8 about 80 % are
                  right (Guo et al., "On Calibration of Modern Neural Networks", ICML 2017)
    `threshold`   answers at least this probable are wrong in at most the asked share (Jin and Candès,
                  "Selection by Prediction with Conformal p-values", JMLR 2023)
    `set_bound`   the classes at least this probable hold the right one in the asked share of photographs
                  (split conformal prediction; Vovk et al., 2005, with the score of Sadinle et al., JASA 2019)

They hold on average, for photographs like those, and among all classes: with `within` they are no longer exact.
Any share may be asked later, so the probabilities of the photographs are stored: some kilobytes.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mpfgvc.data.samples import counted
from mpfgvc.data.taxonomy import Taxonomy, classes_within
from mpfgvc.errors import ConfigError
from mpfgvc.terms import CLASS, Source

MOST_OF_CLASSES = 2 / 3
"""Of the classes, that a group may hold whose name is an answer."""
UNREACHABLE = math.inf
"""A threshold that no probability reaches: nothing would be right often enough."""


@dataclass(frozen=True, kw_only=True)
class LevelScores:
    """For each photograph, how probable the best group of a level was, and whether it was the right one."""

    level: str
    """class, or a level of the taxonomy."""
    confidence: tuple[float, ...]
    right: tuple[bool, ...]

    def __post_init__(self) -> None:
        if len(self.confidence) != len(self.right) or len(self.right) < 2:
            raise ConfigError(f"calibration of the level {self.level} must have as many answers as probabilities")
        _check_probabilities(self.confidence)


@dataclass(frozen=True, kw_only=True)
class SourceCalibration:
    """The calibration of one source of logits; all fields have the same photographs in the same order."""

    source: Source
    temperature: float
    truth: tuple[float, ...]
    """The probability of the right class of each photograph."""
    levels: tuple[LevelScores, ...]
    """The classes first, then the levels of the taxonomy, finest first, if there is one."""

    def __post_init__(self) -> None:
        if not (0 < self.temperature < math.inf):
            raise ConfigError(f"calibration temperature must be above 0, got {self.temperature}")
        if not self.levels or any(len(level.right) != len(self.truth) for level in self.levels):
            raise ConfigError("calibration must have every photograph at each level")
        _check_probabilities(self.truth)

    def thresholds(self, risk: float, *, back_off: bool = False, taxonomy: Taxonomy | None = None) -> tuple[float, ...]:
        """The least probability of an answer at each level so that at most `risk` of the answers are wrong.

        One for the classes; with `back_off`, one for each level, of the photographs that got no answer below. A level
        of `taxonomy` that says little (`says_little`) gives no answer.
        """
        left = np.ones(len(self.truth), dtype=bool)
        found = []
        for index, scores in enumerate(self.levels if back_off else self.levels[:1]):
            if index and taxonomy is not None and says_little(taxonomy, index - 1):
                found.append(UNREACHABLE)
                continue
            confidence, right = np.array(scores.confidence), np.array(scores.right)
            found.append(threshold(confidence[left], right[left], risk))
            left &= confidence < found[-1]
        return tuple(found)

    def set_bound(self, share: float) -> float:
        """The least probability of a class in a set that holds the right one in `share` of the cases.

        0, for all classes, if there are too few photographs for so large a share.
        """
        count = len(self.truth)
        rank = math.ceil((count + 1) * share)  # of the scores 1 - p, ascending
        return 0.0 if rank > count else float(np.sort(self.truth)[::-1][rank - 1])


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What a model stores: where its photographs came from, and what they say about each source."""

    photographs: str
    """Such as `validation split`."""
    sources: tuple[SourceCalibration, ...]

    def of(self, source: Source) -> SourceCalibration | None:
        """The calibration of a source, None if there is none."""
        return next((scores for scores in self.sources if scores.source == source), None)

    def temperature_of(self, source: Source) -> float:
        """The temperature of a source; 1 if it has no calibration."""
        found = self.of(source)
        return 1.0 if found is None else found.temperature


def threshold(confidence: NDArray[np.float64], right: NDArray[np.bool_], risk: float) -> float:
    """The smallest t such that, of the answers with confidence >= t, at most `risk` are wrong.

    For t: (1 + wrong) / (n + 1) over answered / n, as the conformal p-value counts the new photograph
    as one of the wrong ones. `UNREACHABLE` where no t will do.
    """
    order = np.argsort(-confidence, kind="stable")
    ranked, wrong = confidence[order], np.cumsum(~right[order])
    count = len(ranked)
    answered = np.arange(1, count + 1)
    kept = (1 + wrong) / (count + 1) <= risk * answered / max(1, count)
    last_of_equals = np.append(ranked[1:] != ranked[:-1], True) if count else np.zeros(0, dtype=bool)
    found = np.flatnonzero(kept & last_of_equals)
    return float(ranked[found[-1]]) if len(found) else UNREACHABLE


def says_little(taxonomy: Taxonomy, level: int) -> bool:
    """Whether one group of a level holds more than MOST_OF_CLASSES: dogs, flowers and lemons would all get its name."""
    groups = Counter(taxonomy.groups[level])
    return groups.most_common(1)[0][1] > MOST_OF_CLASSES * groups.total()


def softmax(logits: NDArray[np.floating], temperature: float = 1.0) -> NDArray[np.float64]:
    """The probabilities of each row of logits over a temperature, in float64. (batch, classes)"""
    scaled = logits.astype(np.float64) / temperature
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    shares: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return shares


def _check_probabilities(values: Sequence[float]) -> None:
    if not all(0 <= value <= 1 for value in values):
        raise ConfigError("calibration must hold probabilities between 0 and 1")


@dataclass(frozen=True, kw_only=True)
class Guess:
    """A class and how probable the model takes it to be, 0..1."""

    label: str
    probability: float


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The answer to a photograph under rules."""

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
    """Classes and groups that the answer may be; empty = all, or those of `checklist`."""
    checklist: tuple[str, ...] = ()
    """The same, of which the model need not know all: the species of a region."""

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
        self._within, self._unknown = self._limits()
        self._thresholds, self._set_bound = self._promises()

    @property
    def notes(self) -> tuple[str, ...]:
        """What is said once, before the first answer."""
        notes = []
        if self._unknown:
            notes.append(counted("names that this model does not know", self._unknown, len(self.rules.checklist)))
        if self._within is not None and self.rules.needs_calibration:
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
        if self._within is not None:
            logits = np.where(self._within, logits, -np.inf)
        return softmax(logits, self.temperature)

    def guesses(self, probabilities: NDArray[np.float64], top: int) -> list[Guess]:
        """The `top` most probable classes of a row, best first."""
        classes, best = self.facts.classes, self._ranked(probabilities)[:top]
        return [Guess(label=classes[index], probability=float(probabilities[index])) for index in best]

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
        order = self._ranked(probabilities)
        count = max(1, int((probabilities[order] >= self._set_bound).sum()))
        return tuple(self.facts.classes[index] for index in order[:count])

    def _ranked(self, probabilities: NDArray[np.float64]) -> NDArray[np.int64]:
        """The classes that may be answered, most probable first."""
        order = np.argsort(-probabilities, kind="stable")
        return order if self._within is None else order[self._within[order]]

    def _limits(self) -> tuple[NDArray[np.bool_] | None, list[str]]:
        """The classes that may be answered, None for all, and the names of the checklist that mean none."""
        rules, classes, unknown = self.rules, self.facts.classes, []
        within = classes_within(rules.within, classes, self.facts.taxonomy)
        for name in rules.checklist:
            try:
                within |= classes_within((name,), classes, self.facts.taxonomy)
            except ConfigError:
                unknown.append(name)
        if unknown and not within.any():
            line = counted(f"within must name classes of {self.facts.name}, which knows none of its names", unknown)
            raise ConfigError(f"{line}; name some that it has, such as {classes[0]}")
        return (within if rules.within or rules.checklist else None), unknown

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
            thresholds = calibration.thresholds(rules.abstain, back_off=rules.back_off, taxonomy=self.facts.taxonomy)
        return thresholds, 0.0 if rules.set is None else calibration.set_bound(rules.set)
