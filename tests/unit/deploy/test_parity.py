"""The report that compares an export with its model, on probabilities that are written out."""

import numpy as np
import pytest

from mpfgvc.deploy.export.export import LIMITS, Limits, compare
from mpfgvc.errors import ConfigError, OutputError

BEFORE = np.array([[0.7, 0.2, 0.1], [0.5, 0.4, 0.1], [0.1, 0.1, 0.8], [0.3, 0.6, 0.1]])
AFTER = np.array([[0.7, 0.2, 0.1], [0.4, 0.5, 0.1], [0.1, 0.1, 0.8], [0.28, 0.62, 0.1]])
LOOSE = Limits(difference=1, agreement=0)


def test_the_report_counts_equal_guesses_differences_and_accuracies() -> None:
    parity = compare(BEFORE, AFTER, [0, 1, None, 0], LOOSE)
    assert parity.largest_difference == pytest.approx(0.1)
    assert parity.agreement == 3 / 4
    assert (parity.count, parity.labelled) == (4, 3)
    assert (parity.accuracy_before, parity.accuracy_after) == (1 / 3, 2 / 3)


def test_without_labels_there_are_no_accuracies() -> None:
    parity = compare(BEFORE, AFTER, [None] * 4, LOOSE)
    assert (parity.labelled, parity.accuracy_before, parity.accuracy_after) == (0, None, None)


def test_each_limit_is_kept_by_itself_and_names_its_option() -> None:
    compare(BEFORE, AFTER, [None] * 4, Limits(difference=0.11, agreement=0.75)).refuse_off("a.onnx")
    with pytest.raises(OutputError, match=r"a\.onnx was not written.* differs by 0\.1.*\(--difference\)"):
        compare(BEFORE, AFTER, [None] * 4, Limits(difference=0.09, agreement=0)).refuse_off("a.onnx")
    with pytest.raises(OutputError, match=r"3 of 4 photographs have the same best guess.*\(--agreement\)"):
        compare(BEFORE, AFTER, [None] * 4, Limits(difference=1, agreement=0.76)).refuse_off("a.onnx")


@pytest.mark.parametrize(
    ("same", "count", "fine"),
    [(191, 200, True), (190, 200, False), (71, 72, True), (70, 72, False), (32, 32, True), (31, 31, False)],
)
def test_few_photographs_must_agree_better_where_nothing_but_agreement_is_checked(
    same: int, count: int, fine: bool
) -> None:
    before = np.tile([0.9, 0.1], (count, 1))
    after = before.copy()
    after[same:] = [0.1, 0.9]
    parity = compare(before, after, [None] * count, LIMITS["int8"])
    assert parity.agreement_at_least == pytest.approx(_wilson(same, count), abs=1e-12)
    if fine:
        parity.refuse_off("a.onnx")
    else:
        with pytest.raises(OutputError, match=f"{same} of {count} photographs have the same best guess"):
            parity.refuse_off("a.onnx")


def _wilson(right: int, count: int) -> float:
    """The root of |p - share| = z sqrt(p (1 - p) / n) below the share, by halving."""
    low, high = 0.0, right / count
    for _ in range(100):
        middle = (low + high) / 2
        too_low = right / count - middle > 1.645 * (middle * (1 - middle) / count) ** 0.5
        low, high = (middle, high) if too_low else (low, middle)
    return low


def test_a_probability_that_is_not_a_number_is_off_whatever_the_limits() -> None:
    broken = AFTER.copy()
    broken[0, 0] = np.nan
    with pytest.raises(OutputError, match="differs by nan"):
        compare(BEFORE, broken, [None] * 4, LOOSE).refuse_off("a.onnx")


def test_limits_are_shares() -> None:
    with pytest.raises(ConfigError, match="--agreement must be between 0 and 1, got 95"):
        Limits(difference=0.1, agreement=95)
