"""The answer to one photograph; no torch."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Guess:
    """A class and how probable the model takes it to be, 0..1."""

    label: str
    probability: float


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The guesses for one file, best first; for one that cannot be read there are none, but a `failure`."""

    path: Path
    guesses: tuple[Guess, ...]
    failure: str = ""
