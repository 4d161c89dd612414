"""The answer to one photograph; no torch."""

from dataclasses import dataclass
from pathlib import Path

from mpfgvc.terms import CLASS


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
