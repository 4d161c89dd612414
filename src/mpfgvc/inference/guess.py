"""The answer to one photograph; no torch."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Guess:
    """A class and how probable the model takes it to be, 0..1."""

    label: str
    probability: float
