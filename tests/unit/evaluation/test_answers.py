"""What a model answered is stored photograph by photograph and comes back, whatever the names hold."""

from pathlib import Path

import pytest
from tests.made_answers import answers_of

from mpfgvc.errors import CheckpointError
from mpfgvc.evaluation.metrics import load_answers, save_answers

ANSWERS = answers_of(
    labels=("a", "b", "b, small"),
    guesses={"vision": ("a", "a", "b, small"), "fusion": ("b", "b", "b, small")},
    paths=("/set/a/1.png", '/set/b/"2",\r\n.png', "/other/caf\udce9.png"),
)


def test_what_is_written_is_read_and_the_sources_stay_apart(tmp_path: Path) -> None:
    save_answers(ANSWERS, tmp_path / "p.csv")
    read = load_answers(tmp_path / "p.csv")
    assert (read.paths, read.classes) == (ANSWERS.paths, ANSWERS.classes)
    assert read.sources["vision"].right.tolist() == [True, False, True]
    assert read.sources["fusion"].right.tolist() == [False, True, True]
    for source, metrics in ANSWERS.sources.items():
        for name in ("labels", "guesses", "ranks", "probability", "truth"):
            assert (getattr(read.sources[source], name) == getattr(metrics, name)).all()
    heading = (tmp_path / "p.csv").read_text(errors="surrogateescape").split("\n")[0]
    assert heading.startswith("path,label,vision,fusion,vision_probability,vision_truth,vision_rank,fusion_pr")


def test_paths_start_from_the_root_unless_the_photograph_is_elsewhere() -> None:
    assert ANSWERS.below(Path("/set")).paths == ("a/1.png", 'b/"2",\r\n.png', "/other/caf\udce9.png")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not enough values"),
        ("path,label,vision\na,b,b\n", "no column such as fusion_rank"),
        ("path,label,vision,vision_truth,vision_rank\na,b,b,0.5,1\n", "vision_probability"),
        ("path,label,text,text_probability,text_truth,text_rank\na,b,b,0.5,0.5,first\n", "could not convert"),
        ("path,label,text,text_probability,text_truth,text_rank\na,b,b,0.5\n", "argument 2 is shorter|shorter"),
    ],
)
def test_another_file_is_refused_by_its_name(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "p.csv").write_text(text)
    line = rf"p\.csv is not a table of predictions: .*({reason}).*; restore the file"
    with pytest.raises(CheckpointError, match=line):
        load_answers(tmp_path / "p.csv")
