"""What went wrong, photograph by photograph: the mistakes, the pairs that were confused, doubtful labels.

All of it is about one source of logits, and needs answers that kept how sure that source was.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mpfgvc.evaluation.answers import Answers


class Judged(NamedTuple):
    """One photograph and what was said about it; classes by their index, probabilities in 0..1."""

    place: int
    """Its place in the order of the answers."""
    path: str
    true: int
    guess: int
    probability: float
    """Of the guess."""
    truth: float
    """Of the right class."""
    rank: int
    """Of the right class; 1 is the best."""

    @property
    def is_wrong(self) -> bool:
        """Whether it was taken for another class."""
        return self.true != self.guess


@dataclass(frozen=True, kw_only=True)
class ConfusedPair:
    """Two classes that were taken for each other: `first` for `second`, and `second` for `first`."""

    first: int
    second: int
    first_as_second: int
    second_as_first: int

    @property
    def count(self) -> int:
        """Mistakes in both directions."""
        return self.first_as_second + self.second_as_first


def judged_photos(answers: Answers, source: str, classes: Sequence[str]) -> list[Judged]:
    """Every photograph in the order of the answers. Raises KeyError without certainty of the source."""
    labels, sure = {name: label for label, name in enumerate(classes)}, answers.certainty[source]
    columns = (
        answers.paths,
        (labels[name] for name in answers.labels),
        (labels[name] for name in answers.predicted[source]),
        *(sure.probability, sure.truth, sure.rank),
    )
    return [Judged(place, *row) for place, row in enumerate(zip(*columns, strict=True))]


def wrong_photos(judged: Sequence[Judged]) -> list[Judged]:
    """The mistakes, the surest first."""
    return sorted((each for each in judged if each.is_wrong), key=lambda each: -each.probability)


def suspects(judged: Sequence[Judged]) -> list[Judged]:
    """The photographs whose label may be wrong: mistakes, the least probable label first."""
    return sorted(
        (each for each in judged if each.is_wrong), key=lambda each: (each.truth, -each.probability)
    )


def confused_pairs(judged: Sequence[Judged]) -> list[ConfusedPair]:
    """All pairs of classes with a mistake between them, the most mistakes first."""
    counts = Counter((each.true, each.guess) for each in judged if each.is_wrong)
    pairs = [
        ConfusedPair(
            first=low, second=high, first_as_second=counts[low, high], second_as_first=counts[high, low]
        )
        for low, high in {(min(pair), max(pair)) for pair in counts}
    ]
    return sorted(pairs, key=lambda pair: (-pair.count, pair.first, pair.second))
