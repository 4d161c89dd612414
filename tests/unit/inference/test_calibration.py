"""Thresholds and sets keep their promises: by the definition, and on photographs that were not used."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpfgvc.errors import ConfigError
from mpfgvc.inference.calibration import UNREACHABLE, LevelScores, SourceCalibration, softmax, threshold


def _calibration(truth: list[float], **levels: tuple[list[float], list[bool]]) -> SourceCalibration:
    return SourceCalibration(
        source="fusion",
        temperature=1.0,
        truth=tuple(truth),
        levels=tuple(
            LevelScores(level=name, confidence=tuple(sure), right=tuple(right))
            for name, (sure, right) in levels.items()
        ),
    )


@given(
    answers=st.lists(
        st.tuples(st.sampled_from([0.1, 0.25, 0.5, 0.7, 0.9, 1.0]), st.booleans()), min_size=2, max_size=30
    ),
    risk=st.sampled_from([0.01, 0.1, 0.2, 0.4, 0.6, 0.9]),
)
def test_a_threshold_is_the_smallest_that_keeps_the_conformal_bound(
    answers: list[tuple[float, bool]], risk: float
) -> None:
    confidence, right = (np.array(each) for each in zip(*answers, strict=True))

    def keeps(bound: float) -> bool:
        answered = confidence >= bound
        wrong = (answered & ~right).sum()
        return bool((1 + wrong) / (len(right) + 1) <= risk * answered.sum() / len(right))

    fitting = [bound for bound in sorted(set(confidence.tolist())) if keeps(bound)]
    assert threshold(confidence, right, risk) == (fitting[0] if fitting else UNREACHABLE)


@pytest.mark.parametrize("seed", range(5))
def test_few_answers_are_wrong_and_sets_hold_the_truth_on_new_photographs(seed: int) -> None:
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(6000, 10))
    shares = softmax(logits, 0.4)
    labels = np.array([generator.choice(10, p=row) for row in shares])
    truth, right = shares[np.arange(6000), labels], shares.argmax(axis=1) == labels
    half = slice(0, 3000)
    calibration = _calibration(
        truth[half].tolist(), **{"class": (shares.max(axis=1)[half].tolist(), right[half].tolist())}
    )
    (bound,) = calibration.thresholds(0.2)
    answered = shares.max(axis=1)[3000:] >= bound
    assert answered.mean() > 0.1
    assert 1 - right[3000:][answered].mean() == pytest.approx(0.2, abs=0.04)
    for share in (0.8, 0.9, 0.95):
        assert (truth[3000:] >= calibration.set_bound(share)).mean() == pytest.approx(share, abs=0.02)


def test_back_off_thresholds_are_found_among_what_is_left() -> None:
    sure = [0.9] * 40 + [0.3] * 40
    right = [True] * 40 + [False, True] * 20
    genus_sure = [0.2] * 40 + [0.8] * 40  # those that are answered below do not count
    calibration = _calibration([0.5] * 80, **{"class": (sure, right), "genus": (genus_sure, [True] * 80)})
    assert calibration.thresholds(0.05) == (0.9,)
    assert calibration.thresholds(0.05, back_off=True) == (0.9, 0.8)


def test_shares_out_of_reach_give_no_answer_and_all_classes() -> None:
    calibration = _calibration([0.5, 0.6, 0.9], **{"class": ([0.5, 0.6, 0.9], [False, False, True])})
    assert calibration.thresholds(0.01) == (math.inf,)
    assert calibration.set_bound(0.99) == 0.0
    assert calibration.set_bound(0.5) == 0.6


def test_what_cannot_be_a_calibration_is_refused() -> None:
    with pytest.raises(ConfigError, match="as many answers as probabilities"):
        LevelScores(level="class", confidence=(0.5, 0.5), right=(True,))
    with pytest.raises(ConfigError, match="between 0 and 1"):
        LevelScores(level="class", confidence=(0.5, 1.5), right=(True, False))
    with pytest.raises(ConfigError, match="temperature must be above 0, got 0"):
        SourceCalibration(source="text", temperature=0, truth=(0.5, 0.5), levels=())
    with pytest.raises(ConfigError, match="every photograph at each level"):
        _calibration([0.5, 0.5, 0.5], **{"class": ([0.5, 0.5], [True, True])})


@settings(max_examples=30)
@given(st.lists(st.floats(-1e4, 1e4), min_size=2, max_size=6), st.sampled_from([0.05, 1.0, 20.0]))
def test_probabilities_sum_to_one_and_keep_the_order(row: list[float], temperature: float) -> None:
    logits = np.array([row])
    shares = softmax(logits, temperature)
    assert shares.sum() == pytest.approx(1)
    assert shares[0, logits[0].argmax()] == shares.max()
