"""Answers under rules: unsure, backed off to a group, sets, and only some classes."""

from pathlib import Path

import numpy as np
import pytest

from mpfgvc.data.taxonomy import Taxonomy
from mpfgvc.errors import ConfigError
from mpfgvc.inference.answering import Answer, Answering, AnswerRules, ModelFacts
from mpfgvc.inference.calibration import Calibration, LevelScores, SourceCalibration

CLASSES = ("Western Gull", "California Gull", "Barn Owl")
TREE = Taxonomy(levels=("genus",), groups=(("Larus", "Larus", "Tyto"),))
SURE, UNSURE = (0.9, 0.05, 0.05), (0.5, 0.45, 0.05)
LOST = (0.4, 0.2, 0.4)


def _scores(level: str, *, sure: tuple[float, int], unsure: float, right: int) -> LevelScores:
    share, count = sure
    return LevelScores(
        level=level,
        confidence=(share,) * count + (unsure,) * (100 - count),
        right=(True,) * right + (False,) * (100 - right),
    )


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
