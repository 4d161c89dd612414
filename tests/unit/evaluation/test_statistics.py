"""Intervals and tests against exact results for simple cases, which share nothing with a bootstrap."""

import builtins
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

from mpfgvc.errors import ConfigError
from mpfgvc.evaluation.statistics import Interval, accuracy_interval, paired_difference, refuse_missing_scipy


def test_with_one_seed_the_interval_is_nearly_the_one_of_a_binomial_proportion() -> None:
    right = np.zeros(700, dtype=np.int64)
    right[:602] = 1
    interval = accuracy_interval(right, np.ones_like(right))
    exact = binomtest(602, 700).proportion_ci(method="wilson")
    assert interval.low == pytest.approx(exact.low, abs=0.004)
    assert interval.high == pytest.approx(exact.high, abs=0.004)


@pytest.mark.parametrize("count", [4800, 5400])
def test_many_photographs_are_not_resampled_and_the_interval_is_the_same(count: int) -> None:
    """Below and above MANY, beside the exact interval of a proportion."""
    right = np.zeros(count, dtype=np.int64)
    right[: count * 9 // 10] = 1
    interval = accuracy_interval(right, np.ones_like(right))
    exact = binomtest(int(right.sum()), count).proportion_ci(method="wilson")
    assert interval.low == pytest.approx(exact.low, abs=0.001)
    assert interval.high == pytest.approx(exact.high, abs=0.001)


def test_photographs_are_the_unit_so_equal_seeds_do_not_narrow_the_interval() -> None:
    right = np.random.default_rng(3).integers(0, 2, 150)
    once = accuracy_interval(right, np.ones_like(right))
    thrice = accuracy_interval(3 * right, np.full_like(right, 3))
    assert thrice.low == pytest.approx(once.low)
    assert thrice.high == pytest.approx(once.high)


def test_photographs_that_fewer_seeds_tested_weigh_less() -> None:
    """The normal approximation of a ratio (Cochran, 1977) as the reference."""
    random = np.random.default_rng(4)
    seen = random.integers(1, 4, 900)
    right = random.binomial(seen, 0.8)
    interval = accuracy_interval(right, seen)
    ratio = right.sum() / seen.sum()
    error = np.sqrt(((right - ratio * seen) ** 2).sum() * 900 / 899) / seen.sum()
    assert interval.low == pytest.approx(ratio - 1.96 * error, abs=0.004)
    assert interval.high == pytest.approx(ratio + 1.96 * error, abs=0.004)


def test_where_all_are_right_or_all_wrong_the_interval_knows_how_few_they_are() -> None:
    all_right = accuracy_interval(np.full(15, 2), np.full(15, 2))
    assert (all_right.low, all_right.high) == (pytest.approx(0.025 ** (1 / 15)), 1.0)
    all_wrong = accuracy_interval(np.zeros(6000, np.int64), np.ones(6000, np.int64))
    assert (all_wrong.low, all_wrong.high) == (0.0, pytest.approx(1 - 0.025 ** (1 / 6000)))
    assert accuracy_interval(np.array([1]), np.array([2])) == Interval(0.5, 0.5)


@pytest.mark.parametrize(("won", "lost"), [(1, 0), (9, 2), (4, 4), (12, 1)])
def test_with_one_seed_the_sign_flip_test_is_mcnemars_exact_test(won: int, lost: int) -> None:
    right, reference = np.ones(90, dtype=np.int64), np.ones(90, dtype=np.int64)
    reference[:won], right[won : won + lost] = 0, 0
    difference = paired_difference(right, reference, np.ones_like(right))
    assert difference.p_value == pytest.approx(binomtest(won, won + lost).pvalue)
    assert difference.mean == pytest.approx((won - lost) / 90)
    assert difference.interval.low <= difference.mean <= difference.interval.high


def test_with_many_differences_it_is_still_close_to_mcnemars_and_repeats_exactly() -> None:
    right, reference = np.ones(400, dtype=np.int64), np.ones(400, dtype=np.int64)
    reference[:60], right[60:98] = 0, 0
    differences = [paired_difference(right, reference, np.ones_like(right)) for _ in range(2)]
    assert differences[0] == differences[1]
    assert differences[0].p_value == pytest.approx(binomtest(60, 98).pvalue, abs=0.01)
    swapped = paired_difference(reference, right, np.ones_like(right))
    assert swapped.mean == -differences[0].mean
    assert swapped.interval.high == pytest.approx(-differences[0].interval.low, abs=0.005)


def test_equal_answers_differ_by_nothing() -> None:
    right = np.array([1, 0, 2, 2])
    difference = paired_difference(right, right, np.full(4, 2))
    assert (difference.mean, difference.interval, difference.p_value) == (0, Interval(0, 0), 1)


def test_a_missing_scipy_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    found = builtins.__import__

    def without_scipy(name: str, *rest: Any) -> Any:
        if name.startswith("scipy"):
            raise ImportError(name)
        return found(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_scipy)
    with pytest.raises(ConfigError) as refusal:
        refuse_missing_scipy()
    assert str(refusal.value) == "intervals need scipy: pip install 'mpfgvc[compare]'"
