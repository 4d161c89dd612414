"""The axis of a chart."""

import pytest

from mpfgvc.pages import Scale


@pytest.mark.parametrize(("low", "high"), [(0, 1), (41.2, 43.9), (-0.003, 0.02), (0, 730), (5, 5)])
def test_an_axis_has_a_few_round_marks_inside_it(low: float, high: float) -> None:
    scale = Scale.over([low, high])
    assert 3 <= len(scale.ticks) <= 11
    assert scale.low <= min(scale.ticks)
    assert max(scale.ticks) <= scale.high
    assert all(0 < float(scale.place(value).rstrip("%")) < 100 for value in (low, high))
