"""Does an exported model answer as the model it was made from? A report on photographs, and its limits.

Both see the same photographs, each through its own code. Differences are of probabilities (0..1) of the
source that the model answers with.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mpfgvc.errors import ConfigError, OutputError
from mpfgvc.terms import ExportPrecision


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The largest difference of a probability, and the least share of equal best guesses, that are fine."""

    difference: float
    agreement: float

    def __post_init__(self) -> None:
        for name in ("difference", "agreement"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ConfigError(f"--{name} must be between 0 and 1, got {value}")


LIMITS: dict[ExportPrecision, Limits] = {
    "fp32": Limits(difference=1e-3, agreement=1.0),
    "fp16": Limits(difference=0.02, agreement=0.99),
    "int8": Limits(difference=1.0, agreement=0.95),
}
"""In 8 bits a photograph between two classes may change sides, so no difference of one is a fault."""
FASTER = Limits(difference=1.0, agreement=0.97)
"""The limits where OpenVINO computes in bf16, for fp32 and fp16."""


@dataclass(frozen=True, kw_only=True)
class Parity:
    """A comparison on `count` photographs, `labelled` of which have a known class."""

    count: int
    largest_difference: float
    """Of any probability of any photograph. 0..1"""
    agreement: float
    """Share of the photographs with the same best guess. 0..1"""
    labelled: int
    accuracy_before: float | None
    accuracy_after: float | None
    """Top-1 of the model and of the export on the labelled ones; None if there are none. 0..1"""
    limits: Limits

    def refuse_off(self, name: str) -> None:
        """Raise OutputError if a limit is broken, naming the option that sets it."""
        limits, broken = self.limits, []
        if not self.largest_difference <= limits.difference:  # a NaN is broken, too
            figures = f"{self.largest_difference:.3g}, at most {limits.difference:g} is fine"
            broken.append(f"a probability differs by {figures} (--difference)")
        if self.agreement < limits.agreement:
            same = f"{round(self.agreement * self.count)} of {self.count} photographs"
            broken.append(f"{same} have the same best guess, {limits.agreement:.0%} is fine (--agreement)")
        if broken:
            reason = f"it does not answer as the model does: {'; '.join(broken)}"
            raise OutputError(f"{name} was not written, {reason}; choose another --precision, or looser limits")


def compare(
    before: NDArray[np.float64], after: NDArray[np.float64], labels: Sequence[int | None], limits: Limits
) -> Parity:
    """The report from the probabilities of both, (photographs, classes)."""
    differences = np.abs(before - after).max(axis=1)
    first, second = before.argmax(axis=1), after.argmax(axis=1)
    known = [index for index, label in enumerate(labels) if label is not None]
    truth = np.array([labels[index] for index in known])
    return Parity(
        count=len(before),
        largest_difference=float(differences.max()),
        agreement=float((first == second).mean()),
        labelled=len(known),
        accuracy_before=float((first[known] == truth).mean()) if known else None,
        accuracy_after=float((second[known] == truth).mean()) if known else None,
        limits=limits,
    )
