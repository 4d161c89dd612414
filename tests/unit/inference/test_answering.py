"""Answers under rules, and thresholds and sets that keep their promises, also on photographs that were not used."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpfgvc.data.taxonomy import Taxonomy
from mpfgvc.errors import ConfigError
from mpfgvc.inference.answering import (
    UNREACHABLE,
    Answer,
    Answering,
    AnswerRules,
    Calibration,
    LevelScores,
    ModelFacts,
    SourceCalibration,
    softmax,
    threshold,
)

CLASSES = ("Western Gull", "California Gull", "Barn Owl")
TREE = Taxonomy(levels=("genus",), groups=(("Larus", "Larus", "Tyto"),))
SURE, UNSURE = (0.9, 0.05, 0.05), (0.5, 0.45, 0.05)
LOST = (0.4, 0.2, 0.4)


def _facts(*, taxonomy: Taxonomy | None = TREE, temperature: float = 1.0) -> ModelFacts:
    """A model whose classes are sure from 0.8 on and whose genera from 0.9 on; sets take 0.3 at 90 %."""
    calibration = SourceCalibration(
        source="fusion",
        temperature=temperature,
        truth=(0.2,) * 9 + (0.3,) + (0.9,) * 90,
        levels=(
            LevelScores(level="class", confidence=(0.8,) * 50 + (0.5,) * 50, right=(True,) * 60 + (False,) * 40),
            LevelScores(level="genus", confidence=(0.9,) * 95 + (0.6,) * 5, right=(True,) * 95 + (False,) * 5),
        ),
    )
    whole = Calibration(photographs="validation split", sources=(calibration,))
    return ModelFacts(name="runs/gulls", classes=CLASSES, calibration=whole, taxonomy=taxonomy)


def _answer(shares: tuple[float, ...], rules: AnswerRules) -> Answer:
    answering = Answering(_facts(), rules)
    (row,) = answering.probabilities(np.log([shares]))
    return answering.answer(row)


def test_without_rules_the_answer_is_the_best_guess() -> None:
    assert _answer(LOST, AnswerRules()) == Answer(label="Western Gull")


def test_an_answer_that_is_not_sure_enough_is_none() -> None:
    assert _answer(SURE, AnswerRules(abstain=0.05)).label == "Western Gull"
    assert _answer(UNSURE, AnswerRules(abstain=0.05)) == Answer(label=None)


def test_backing_off_answers_with_the_genus_where_that_is_sure() -> None:
    rules = AnswerRules(abstain=0.05, back_off=True)
    assert _answer(SURE, rules) == Answer(label="Western Gull")
    assert _answer(UNSURE, rules) == Answer(label="Larus", level="genus")
    assert _answer(LOST, rules) == Answer(label=None)


def test_a_set_holds_the_classes_above_its_bound_and_never_none() -> None:
    assert _answer(LOST, AnswerRules(set=0.9)).classes == ("Western Gull", "Barn Owl")
    assert _answer((0.34, 0.33, 0.33), AnswerRules(set=0.2)).classes == ("Western Gull",)


def test_within_leaves_out_the_other_classes_and_shares_their_probability() -> None:
    answering = Answering(_facts(), AnswerRules(within=("genus Larus",)))
    prediction = answering.prediction(Path("a.jpg"), np.log((0.1, 0.3, 0.6)), top=5)
    guesses, answer = prediction.guesses, prediction.answer
    assert answer is None
    assert [guess.label for guess in guesses] == ["California Gull", "Western Gull"]
    assert [guess.probability for guess in guesses] == pytest.approx([0.75, 0.25])
    both = Answering(_facts(), AnswerRules(within=("Barn Owl",), set=0.9))
    assert both.notes == ("the shares of abstain and set were found among all classes, not within some",)
    assert both.answer(both.probabilities(np.log([SURE]))[0]).classes == ("Barn Owl",)


def test_names_of_a_checklist_that_the_model_does_not_know_are_counted_and_refused_if_none_fits() -> None:
    names = ("Larus", "Kea", "barn_owl", "Cafe\u0301 Gull")
    answering = Answering(_facts(), AnswerRules(checklist=names[1:]))
    assert [guess.label for guess in answering.guesses(np.array([0.5, 0.3, 0.2]), 5)] == ["Barn Owl"]
    assert answering.notes == ("names that this model does not know: 2 of 3 (Kea, Cafe\u0301 Gull)",)
    with pytest.raises(ConfigError, match=r"within must name classes of runs/gulls, .* 1 \(Kea\); .* Western Gull"):
        Answering(_facts(), AnswerRules(checklist=("Kea",)))
    with pytest.raises(ConfigError, match="within must name a class"):
        Answering(_facts(), AnswerRules(within=("Kea",), checklist=names))
    accented = ModelFacts(name="m", classes=("Caf\u00e9 Gull", "Kea"))
    assert Answering(accented, AnswerRules(checklist=names)).guesses(np.array([0.1, 0.9]), 1)[0].label == "Kea"
    assert [guess.label for guess in Answering(accented, AnswerRules(checklist=names[3:])).guesses(np.ones(2), 5)] == [
        "Caf\u00e9 Gull"
    ], "one form of Unicode for both"


def test_the_temperature_of_the_calibration_softens_probabilities() -> None:
    answering = Answering(_facts(temperature=2.0))
    expected = np.sqrt(SURE) / np.sqrt(SURE).sum()
    np.testing.assert_allclose(answering.probabilities(np.log([SURE]))[0], expected)


@pytest.mark.parametrize(
    ("rules", "line"),
    [
        ({"abstain": 1.0}, "abstain must be a share between 0 and 1, such as 0.05, got 1.0"),
        ({"set": 0.0}, "set must be a share between 0 and 1"),
        ({"back_off": True}, "back-off needs abstain"),
    ],
)
def test_rules_that_make_no_sense_are_refused(rules: dict[str, float], line: str) -> None:
    with pytest.raises(ConfigError, match=line):
        AnswerRules(**rules)  # type: ignore[arg-type]


def test_rules_that_the_model_cannot_keep_are_refused_with_the_way_out() -> None:
    bare = ModelFacts(name="runs/gulls", classes=CLASSES)
    with pytest.raises(ConfigError, match=r"runs/gulls does not know how sure .* mpfgvc calibrate"):
        Answering(bare, AnswerRules(set=0.9))
    with pytest.raises(ConfigError, match=r"has no taxonomy to back off in; .* --taxonomy FILE"):
        Answering(_facts(taxonomy=None), AnswerRules(abstain=0.1, back_off=True))


def test_shares_that_cannot_be_kept_are_said() -> None:
    (line,) = Answering(_facts(), AnswerRules(abstain=0.001)).notes
    assert line.startswith("no answer is sure enough for abstain 0.001, so all are unsure; allow")
    (line,) = Answering(_facts(), AnswerRules(set=0.999)).notes
    assert line.startswith("too few photographs for set 0.999, so each set holds all classes; ask")


# Promises


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


def test_a_group_that_holds_most_of_the_classes_is_no_answer() -> None:
    """Photographs of nothing that the model knows would get its name."""
    scores = {"class": ([0.3] * 80, [False, True] * 40), "order": ([0.9] * 80, [True] * 80)}
    calibration = _calibration([0.5] * 80, **scores)
    orders = [("Passeriformes",) * count + ("Strigiformes",) * (12 - count) for count in (8, 9)]
    small, large = (Taxonomy(levels=("order",), groups=(groups,)) for groups in orders)
    assert calibration.thresholds(0.05, back_off=True, taxonomy=small) == (UNREACHABLE, 0.9)
    assert calibration.thresholds(0.05, back_off=True, taxonomy=large) == (UNREACHABLE, UNREACHABLE)


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
