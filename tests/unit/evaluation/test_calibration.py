"""Temperature and calibration error beside independent computations of the same."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from mpfgvc.data.taxonomy import Taxonomy
from mpfgvc.evaluation.calibration import calibration_of, fit_temperature
from mpfgvc.evaluation.statistics import error_with_interval, expected_calibration_error, reliability
from mpfgvc.inference.answering import softmax


def _photographs(count: int, *, sharpness: float, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Logits that are `sharpness` times too large, and labels drawn from the true probabilities."""
    generator = np.random.default_rng(seed)
    logits = 2 * generator.normal(size=(count, 6))
    labels = np.array([generator.choice(6, p=row) for row in softmax(logits)])
    return sharpness * logits, labels


@pytest.mark.parametrize("sharpness", [0.3, 1.0, 4.0])
def test_the_temperature_is_the_one_that_scipy_finds_and_undoes_the_sharpness(sharpness: float) -> None:
    logits, labels = _photographs(4000, sharpness=sharpness)

    def loss(log_temperature: float) -> float:
        rows = log_softmax(logits / np.exp(log_temperature), axis=1)
        smoothed = np.full((len(labels), 6), 1 / 6 / (len(labels) + 2))
        smoothed[np.arange(len(labels)), labels] += 1 - 1 / (len(labels) + 2)
        return float(-(smoothed * rows).sum(axis=1).mean())

    expected = np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded", options={"xatol": 1e-9}).x)
    assert fit_temperature(logits, labels) == pytest.approx(expected, rel=1e-5)
    assert fit_temperature(logits, labels) == pytest.approx(sharpness, rel=0.1)


def test_a_few_photographs_that_are_all_right_leave_a_doubt() -> None:
    temperature = fit_temperature(np.eye(5) * 50, np.arange(5))
    shares = softmax(np.eye(5) * 50, temperature)
    assert shares.max(axis=1) == pytest.approx(1 - 4 / 5 / 7, abs=1e-6)


def test_the_calibration_error_is_that_of_the_definition() -> None:
    generator = np.random.default_rng(1)
    confidence = np.concatenate([generator.random(500), [0.0, 1.0, 1 / 15, 14 / 15]])
    right = generator.random(504) < confidence**2
    expected = 0.0
    for low in range(15):
        inside = [k for k, each in enumerate(confidence) if min(14, int(each * 15)) == low]
        if inside:
            expected += len(inside) / 504 * abs(right[inside].mean() - confidence[inside].mean())
    assert expected_calibration_error(confidence, right) == pytest.approx(expected, rel=1e-12)
    assert sum(each.photographs for each in reliability(confidence, right)) == 504
    found = error_with_interval(confidence, right)
    assert found.value == pytest.approx(expected)
    assert 0.05 < found.interval.low < found.interval.high < 0.4


def test_a_calibration_lowers_the_error_of_photographs_that_it_was_not_fitted_on() -> None:
    logits, labels = _photographs(6000, sharpness=3.0)
    temperature = fit_temperature(logits[:3000], labels[:3000])

    def error(rows: NDArray[np.float64]) -> float:
        return expected_calibration_error(rows.max(axis=1), rows.argmax(axis=1) == labels[3000:])

    before, after = error(softmax(logits[3000:])), error(softmax(logits[3000:], temperature))
    assert before > 0.15
    assert after < 0.03


def test_a_calibration_holds_every_level_of_the_taxonomy() -> None:
    tree = Taxonomy(levels=("genus",), groups=(("A", "A", "B"),))
    logits = {"vision": np.log([[0.6, 0.3, 0.1], [0.2, 0.35, 0.45]]), "fusion": np.zeros((2, 3))}
    found = calibration_of(logits, np.array([1, 1]), taxonomy=tree, photographs="two")  # type: ignore[arg-type]
    assert [each.source for each in found.sources] == ["vision", "fusion"]
    vision = found.sources[0]
    shares = softmax(logits["vision"], vision.temperature)
    classes, genera = vision.levels
    assert (classes.level, genera.level) == ("class", "genus")
    assert classes.right == (False, False)
    assert genera.right == (True, True)
    assert vision.truth == pytest.approx(shares[:, 1], abs=1e-6)
    assert genera.confidence == pytest.approx(shares[:, :2].sum(axis=1), abs=1e-6)
