"""`mpfgvc predict` writes each photograph when its guesses are there, whatever stops it afterwards."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from mpfgvc.cli import predict
from mpfgvc.errors import DataError
from mpfgvc.inference import predictor
from mpfgvc.inference.answering import Answer, Answering, Guess, ModelFacts, Prediction

Cli = Callable[..., tuple[int, str, str]]
Predictions = Callable[[], Iterator[Prediction]]
Use = Callable[[Predictions], None]
FIRST = Prediction(
    path=Path("a #1.jpg"), guesses=(Guess(label="[red]", probability=0.75), Guess(label="x\ny", probability=0.25))
)
SECOND = Prediction(path=Path("b.jpg"), guesses=(), failure="cannot read the photograph b.jpg: it is empty")


@pytest.fixture
def predicting(monkeypatch: pytest.MonkeyPatch) -> Use:
    """Put given predictions in place of a model's."""

    def find(patterns: list[str], tell: Callable[[str], None]) -> tuple[Path, ...]:
        tell("ignored 1 hidden or system files and folders: .thumbnails/a.jpg")
        return tuple(Path(each) for each in patterns)

    def use(made: Predictions) -> None:
        class Fake:
            answering = Answering(ModelFacts(name="run", classes=("a", "b")))
            backend, classes = SimpleNamespace(how="fp32"), ("a", "b")

            def predict_files(self, paths: object, **options: object) -> Iterator[Prediction]:
                return made()

        monkeypatch.setattr(predictor.Predictor, "from_pretrained", lambda *words, **options: Fake())
        monkeypatch.setattr(predict, "find_images", find)

    return use


def test_the_table_has_a_line_for_each_photograph_and_each_guess(cli: Cli, predicting: Use) -> None:
    predicting(lambda: iter([FIRST, SECOND]))
    code, stdout, stderr = cli("predict", "run", "photos")
    assert stdout.splitlines() == [
        "a #1.jpg",
        "  0.750  [red]",
        "  0.250  x\\ny",
        "b.jpg",
        "  cannot be read: it is empty",
    ]
    assert code == 2
    assert "1 of 2 photographs predicted in fp32" in stderr
    assert "1 of 2 photographs cannot be read" in stderr


def test_csv_holds_printable_names_and_json_the_names_as_they_are(cli: Cli, predicting: Use) -> None:
    predicting(lambda: iter([FIRST, SECOND]))
    rows = list(csv.reader(io.StringIO(cli("predict", "run", "photos", "--csv")[1])))
    assert rows == [
        ["path", "rank", "label", "probability", "error"],
        ["a #1.jpg", "1", "[red]", "0.750000", ""],
        ["a #1.jpg", "2", r"x\ny", "0.250000", ""],
        ["b.jpg", "", "", "", "it is empty"],
    ]
    document = json.loads(cli("predict", "run", "photos", "--json")[1])
    assert document == [
        {
            "path": "a #1.jpg",
            "guesses": [{"label": "[red]", "probability": 0.75}, {"label": "x\ny", "probability": 0.25}],
        },
        {"path": "b.jpg", "guesses": [], "error": "it is empty"},
    ]
    lines = cli("predict", "run", "photos", "--jsonl")[1].splitlines()
    assert [json.loads(line) for line in lines] == document


@pytest.mark.parametrize("option", ["--json", "--jsonl", "--csv", "--precision=fp32"])
def test_a_photograph_is_written_before_the_next_is_asked_for(
    cli: Cli, capsys: pytest.CaptureFixture[str], predicting: Use, option: str
) -> None:
    written: list[str] = []

    def predictions() -> Iterator[Prediction]:
        yield FIRST
        written.append(capsys.readouterr().out)
        yield SECOND

    predicting(predictions)
    cli("predict", "run", "photos", option)
    assert "a #1.jpg" in written[0]
    assert "b.jpg" not in written[0]


@pytest.mark.parametrize("option", ["--json", "--jsonl", "--csv", "--precision=fp32"])
def test_what_was_written_before_ctrl_c_is_whole(cli: Cli, predicting: Use, option: str) -> None:
    def predictions() -> Iterator[Prediction]:
        yield FIRST
        raise KeyboardInterrupt

    predicting(predictions)
    code, stdout, stderr = cli("predict", "run", "photos", option)
    assert (code, stderr) == (130, "mpfgvc: interrupted; what was written is whole\n")
    assert stdout.endswith("\n")
    assert "0.25" in stdout
    if option == "--json":
        assert len(json.loads(stdout)) == 1


@pytest.mark.parametrize("option", ["--json", "--jsonl", "--csv", "--precision=fp32"])
def test_a_refusal_before_the_first_photograph_leaves_standard_output_empty(
    cli: Cli, predicting: Use, option: str
) -> None:
    def predictions() -> Iterator[Prediction]:
        raise DataError("no\nphotographs")
        yield FIRST

    predicting(predictions)
    assert cli("predict", "run", "photos", option) == (2, "", "mpfgvc: no\\nphotographs\n")


def test_what_is_left_out_of_a_folder_is_counted_and_said(cli: Cli, predicting: Use) -> None:
    predicting(lambda: iter([FIRST]))
    code, _, stderr = cli("predict", "run", "a #1.jpg", "--jsonl")
    assert code == 0
    assert "mpfgvc: ignored 1 hidden or system files and folders: .thumbnails/a.jpg\n" in stderr


def test_csv_has_the_whole_set_beyond_top(cli: Cli, predicting: Use) -> None:
    guesses = tuple(Guess(label=label, probability=0.1) for label in "abcd")
    made = Prediction(path=Path("=cmd.jpg"), guesses=guesses, answer=Answer(label="a", classes=("a", "b", "c")))
    predicting(lambda: iter([made]))
    rows = list(csv.DictReader(io.StringIO(cli("predict", "run", "p", "--csv", "--top", 1, "--set", 0.9)[1])))
    assert [(row["label"], row["in_set"]) for row in rows] == [("a", "yes"), ("b", "yes"), ("c", "yes")]
    assert {row["path"] for row in rows} == {"'=cmd.jpg"}, "no formula"
    predicting(lambda: iter([replace(made, answer=Answer(label="a", classes=("a",)))]))
    rows = list(csv.DictReader(io.StringIO(cli("predict", "run", "p", "--csv", "--top", 2, "--set", 0.9)[1])))
    assert [(row["label"], row["in_set"]) for row in rows] == [("a", "yes"), ("b", "no")]
