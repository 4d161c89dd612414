"""What a run says about itself, from the files of its folder."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mpfgvc.config_io import load_config
from mpfgvc.data.photo_list import ListedPhoto, PhotoList
from mpfgvc.deploy.run_record import read_record
from mpfgvc.errors import CheckpointError
from mpfgvc.evaluation.answers import Answers, save_answers
from mpfgvc.evaluation.statistics import Interval
from mpfgvc.run_environment import Environment
from mpfgvc.run_folder import RunFolder

ENVIRONMENT = Environment(
    command=("/home/ada/mpfgvc", "train"),
    commit=None,
    device="cpu",
    precision="32-true",
    processes=1,
    threads=2,
    python="3.11.7",
    platform="Linux",
    processor="a processor",
    packages={"torch": "2.11.0"},
)
SOURCES = {name: {"top1": 0.75, "top5": 1.0, "mean_class": 0.75} for name in ("vision", "text", "fusion")}
RESULT = {"count": 4, "prediction": "fusion", "precision": "fp32", "sources": SOURCES}
Make = Callable[..., RunFolder]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A run folder with two classes: 3 + 1 training and 2 + 2 test photographs, and a test result."""

    def write(dataset: str = "folder", title: str = "ada", result: dict[str, Any] | None = None) -> RunFolder:
        folder = RunFolder(tmp_path / "run")
        config = load_config(overrides={"data.dataset": dataset, "data.root": "/home/ada/photos"})
        folder.create(config, ENVIRONMENT)
        labels = [("train", 0), ("train", 0), ("train", 0), ("train", 1)]
        labels += [("test", label) for label in (0, 0, 1, 1)]
        photographs = tuple(
            ListedPhoto(path=f"{number}.jpg", label=label, split=split)  # type: ignore[arg-type]
            for number, (split, label) in enumerate(labels)
        )
        listed = PhotoList(dataset=title, supercategory=None, classes=("a", "b"), photographs=photographs)
        listed.save(folder.photographs)
        folder.save_evaluation(RESULT if result is None else result)
        return folder

    return write


def _answers(folder: RunFolder, right: int) -> None:
    labels = ("a", "a", "b", "b")
    predicted = tuple(label if place < right else "c" for place, label in enumerate(labels))
    sources = dict.fromkeys(("vision", "text", "fusion"), predicted)
    paths = tuple(f"{place}.jpg" for place in range(4))
    save_answers(Answers(paths=paths, labels=labels, predicted=sources), folder.predictions("test"))


def test_splits_are_counted_with_their_smallest_and_largest_class(make: Make) -> None:
    splits = read_record(make()).splits
    assert [(each.split, each.photographs, each.fewest, each.most) for each in splits] == [
        ("train", 4, 1, 3),
        ("test", 4, 2, 2),
    ]


def test_the_name_of_somebodys_folder_is_not_told_unless_they_give_one(make: Make) -> None:
    folder = make()
    record = read_record(folder)
    assert record.dataset == "own photographs"
    assert record.config.data.root is None
    assert read_record(folder, dataset="Moths of Jena").dataset == "Moths of Jena"


def test_a_part_of_a_published_dataset_says_how_much_of_it(make: Make) -> None:
    parts = "2 of 200 classes, 4 of 5,994 training photographs, 4 of 5,794 test photographs"
    assert read_record(make("cub", "CUB-200-2011")).dataset == f"CUB-200-2011 (subset: {parts})"


def test_intervals_come_from_the_answers_about_each_photograph(make: Make) -> None:
    folder = make()
    assert read_record(folder).test.main.interval is None  # type: ignore[union-attr]
    _answers(folder, 4)
    test = read_record(folder).test
    assert test is not None
    assert test.main.interval == Interval(1.0, 1.0)
    assert (test.main.source, test.main.top1) == ("fusion", 0.75)


def test_answers_about_other_photographs_give_no_interval_and_a_note(make: Make) -> None:
    folder = make(result=RESULT | {"count": 5})
    _answers(folder, 3)
    record = read_record(folder)
    assert record.test.main.interval is None  # type: ignore[union-attr]
    assert record.notes == (
        f"intervals are left out, as {folder.predictions('test')} holds 4 photographs, evaluation.json 5",
    )


def test_without_scipy_intervals_are_left_out_and_the_extra_is_named(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make()
    _answers(folder, 3)
    monkeypatch.setitem(__import__("sys").modules, "scipy", None)
    assert "pip install 'mpfgvc[compare]'" in read_record(folder).notes[0]


def test_the_time_of_the_training_is_that_of_its_rows(make: Make) -> None:
    folder = make()
    assert read_record(folder).seconds is None
    folder.metrics.write_text("stage,epoch,step,seconds\nstage1,1,4,2.5\nstage2,1,3,0.25\n")
    assert read_record(folder).seconds == 2.75


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        ({}, "sources must be a table"),
        (RESULT | {"count": "4"}, "count must be a whole number"),
        (RESULT | {"prediction": "guess"}, "prediction must be one of"),
        (RESULT | {"sources": {"text": SOURCES["text"]}}, "sources must hold fusion"),
        (RESULT | {"sources": {"fusion": {"top1": 1.0}}}, "sources.fusion.top5 is missing"),
    ],
)
def test_a_damaged_result_is_refused_in_one_line(make: Make, result: dict[str, Any], reason: str) -> None:
    folder = make(result=result)
    with pytest.raises(CheckpointError) as refusal:
        read_record(folder)
    line = str(refusal.value)
    assert line.startswith(f"{folder.evaluation}: {reason}")
    assert "\n" not in line


def test_a_run_without_its_result_is_not_finished(make: Make) -> None:
    folder = make()
    folder.evaluation.unlink()
    with pytest.raises(CheckpointError, match="is not finished: it has no evaluation"):
        read_record(folder)


def test_an_older_run_has_no_counts_but_a_record(make: Make) -> None:
    folder = make("cub", "CUB-200-2011")
    folder.photographs.unlink()
    record = read_record(folder)
    assert (record.splits, record.dataset) == ((), "cub")
    assert json.loads(folder.evaluation.read_text())["count"] == record.test.count  # type: ignore[union-attr]
