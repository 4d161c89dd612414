"""What a model answered is stored photograph by photograph and comes back, whatever the names hold."""

from dataclasses import replace
from pathlib import Path

import pytest

from mpfgvc.errors import CheckpointError
from mpfgvc.evaluation.metrics import Answers
from mpfgvc.evaluation.answers import Certainty, load_answers, save_answers

ANSWERS = Answers(
    paths=("/set/a/1.png", '/set/b/"2",\r\n.png', "/other/caf\udce9.png"),
    labels=("a", "b", "b, small"),
    predicted={"vision": ("a", "a", "b, small"), "fusion": ("b", "b", "b, small")},
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    save_answers(ANSWERS, tmp_path / "predictions-test.csv")
    assert load_answers(tmp_path / "predictions-test.csv") == ANSWERS
    assert (tmp_path / "predictions-test.csv").read_bytes().startswith(b"path,label,vision,fusion\n/set/a/1")


def test_a_source_is_right_where_it_names_the_class() -> None:
    assert ANSWERS.right("vision").tolist() == [True, False, True]
    assert ANSWERS.right("fusion").tolist() == [False, True, True]


def test_paths_start_from_the_root_unless_the_photograph_is_elsewhere() -> None:
    assert ANSWERS.below(Path("/set")).paths == ("a/1.png", 'b/"2",\r\n.png', "/other/caf\udce9.png")


@pytest.mark.parametrize("text", ["", "path,label,vision\na,b\n", "name,label\na,b\n"])
def test_another_file_is_refused_by_its_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(CheckpointError, match=r"p\.csv is not a table of predictions: .*; restore the file"):
        load_answers(tmp_path / "p.csv")


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    save_answers(ANSWERS, tmp_path / "p.csv")
    (tmp_path / "p.csv").write_text("path,label,vision\na,b,b\n")
    with pytest.raises(CheckpointError, match=r"p\.csv"):
        load_answers(tmp_path / "p.csv")


SURE = replace(
    ANSWERS,
    certainty={
        "vision": Certainty(probability=(0.5, 1.0, 0.25), truth=(0.5, 1e-12, 0.123457), rank=(1, 3, 2)),
        "fusion": Certainty(probability=(0.7, 0.6, 1.0), truth=(0.2, 0.6, 1.0), rank=(2, 1, 1)),
    },
)


def test_how_sure_each_source_was_comes_back_and_the_sources_stay_apart(tmp_path: Path) -> None:
    save_answers(SURE, tmp_path / "p.csv")
    assert load_answers(tmp_path / "p.csv") == SURE
    heading = (tmp_path / "p.csv").read_text(errors="surrogateescape").split("\n")[0]
    assert heading.startswith(
        "path,label,vision,fusion,vision_probability,vision_truth,vision_rank,fusion_pr"
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("path,label,vision,vision_truth,vision_rank\na,b,b,0.5,1\n", "column vision_probability is missing"),
        ("path,label,text,text_probability,text_truth,text_rank\na,b,b,0.5,0.5,first\n", "invalid literal"),
    ],
)
def test_half_of_the_certainty_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(CheckpointError, match=rf"p\.csv is not a table of predictions: .*{reason}"):
        load_answers(tmp_path / "p.csv")
