"""The axis of a chart: where a value is on it, and the round numbers that are marked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_STEPS = (1, 2, 5, 10)


@dataclass(frozen=True)
class Scale:
    """An axis from `low` to `high`, with marks at round numbers, four to ten of them."""

    low: float
    high: float

    @classmethod
    def over(cls, values: Sequence[float]) -> Scale:
        """The axis that shows all the values, with some room on both sides."""
        low, high = min(values), max(values)
        room = 0.06 * (high - low) or 1.0
        return cls(low - room, high + room)

    def share(self, value: float) -> float:
        """Where a value is: 0 at `low`, 1 at `high`."""
        return (value - self.low) / (self.high - self.low)

    def place(self, value: float) -> str:
        """Where a value is, in percent of the width."""
        return f"{100 * self.share(value):.2f}%"

    @property
    def ticks(self) -> list[float]:
        """The round numbers on the axis."""
        power = 10.0 ** math.floor(math.log10((self.high - self.low) / 4))
        step = max(each * power for each in _STEPS if each * power <= (self.high - self.low) / 4)
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return [round(number * step, 10) for number in range(first, last + 1)]
