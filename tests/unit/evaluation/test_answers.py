"""What a model answered is stored photograph by photograph and comes back, whatever the names hold."""

from pathlib import Path

import pytest

from mpfgvc.errors import CheckpointError
from mpfgvc.evaluation.answers import Answers, load_answers, save_answers

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
