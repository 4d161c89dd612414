"""Mistakes, confused pairs and doubtful labels of a few photographs, by hand."""

from mpfgvc.evaluation.metrics import Answers
from mpfgvc.evaluation.answers import Certainty
from mpfgvc.evaluation.mistakes import ConfusedPair, confused_pairs, judged_photos, suspects, wrong_photos

ANSWERS = Answers(
    paths=("1", "2", "3", "4", "5"),
    labels=("auk", "auk", "tern", "wren", "tern"),
    predicted={"fusion": ("auk", "tern", "auk", "tern", "auk")},
    certainty={
        "fusion": Certainty(
            probability=(0.9, 0.6, 0.7, 0.95, 0.5),
            truth=(0.9, 0.3, 0.01, 0.04, 0.4),
            rank=(1, 2, 3, 2, 2),
        )
    },
)
JUDGED = judged_photos(ANSWERS, "fusion", ("auk", "tern", "wren"))


def test_mistakes_come_surest_first() -> None:
    assert [each.path for each in wrong_photos(JUDGED)] == ["4", "3", "2", "5"]


def test_a_label_is_the_more_doubtful_the_less_probable_it_is() -> None:
    assert [each.path for each in suspects(JUDGED)] == ["3", "4", "2", "5"]


def test_a_pair_counts_both_directions() -> None:
    assert confused_pairs(JUDGED) == [
        ConfusedPair(first=0, second=1, first_as_second=1, second_as_first=2),
        ConfusedPair(first=1, second=2, first_as_second=0, second_as_first=1),
    ]
    assert confused_pairs(JUDGED[:1]) == []
