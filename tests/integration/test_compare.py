"""`mpfgvc compare`: a table from real trainings, skipped where done, continued where killed."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mpfgvc.cli.main import main

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="session")
def words(tiny_words: list[str]) -> list[str]:
    """Two recipes on `photos`."""
    return [
        *("compare", "full", "without-text", "--seeds", "1", "--json", *tiny_words),
        *("--stage2.start=random", "--model.context_tokens=2"),
    ]


@pytest.fixture(scope="session")
def compared(words: list[str], once: Callable[..., Path]) -> Path:
    """The folder of a finished comparison."""

    def fill(folder: Path) -> None:
        assert main([*words, "--out", str(folder / "out")]) == 0

    return once("compared", fill) / "out"


def results(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows without what depends on the clock and on the machine."""
    return [
        {name: value for name, value in row.items() if name not in ("minutes", "peak_bytes")}
        for row in document["recipes"]
    ]


@pytest.mark.slow("two trainings in processes of their own")
def test_a_comparison_writes_its_table_and_trains_nothing_twice(compared: Path, words: list[str], cli: Cli) -> None:
    before = {path: path.stat().st_mtime_ns for path in compared.glob("*-0/**/*") if path.is_file()}
    code, stdout, stderr = cli(*words, "--out", compared)
    document = json.loads(stdout)
    assert (code, stderr) == (0, "")
    assert [row["name"] for row in document["recipes"]] == ["full", "without-text"]
    assert [row["prediction"] for row in document["recipes"]] == ["fusion", "vision"]
    assert (document["reference"], document["split"], document["photographs"]) == ("full", "test", 15)
    for row in document["recipes"]:
        evaluation = json.loads((compared / f"{row['name']}-0" / "evaluation.json").read_text())
        assert row["accuracies"] == [evaluation["top1"]]
        assert row["peak_bytes"] > 10**8
        assert row["minutes"] > 0
    assert {path.name for path in compared.iterdir()} == {
        *("full-0", "without-text-0", "table.csv", "table.md", "comparison.json")
    }
    assert document == json.loads((compared / "comparison.json").read_text())
    assert before == {path: path.stat().st_mtime_ns for path in compared.glob("*-0/**/*") if path.is_file()}


@pytest.mark.slow("two trainings in processes of their own")
def test_runs_with_other_settings_are_refused_before_anything_is_trained(
    compared: Path, words: list[str], cli: Cli
) -> None:
    code, stdout, stderr = cli(*words, "--out", compared, "--stage1.lr", "0.5", "--device", "auto")
    assert (code, stdout) == (2, "")
    rule = f"{compared}/full-0 holds a run with stage1.lr 0.001, but 0.5 was given"
    assert stderr == f"mpfgvc: {rule}; choose another --out, or remove that folder\n"


@pytest.mark.slow("three trainings in processes of their own")
def test_a_comparison_that_was_stopped_in_its_second_run_goes_on_there(
    compared: Path, words: list[str], cli: Cli, tmp_path: Path
) -> None:
    """The run folder is as a kill leaves it: stage 1 not ended, nothing behind it there."""
    out = Path(shutil.copytree(compared, tmp_path / "out"))
    for name in ("stage1.safetensors", "evaluation.json", "predictions-test.csv"):
        for file in (out / "without-text-0").glob(f"{name}*"):
            file.unlink()
    shutil.rmtree(out / "without-text-0" / "model")
    first = {path: path.stat().st_mtime_ns for path in out.glob("full-0/**/*") if path.is_file()}
    document = json.loads(cli(*words, "--out", out)[1])
    assert results(document) == results(json.loads((compared / "comparison.json").read_text()))
    assert all(path.stat().st_mtime_ns == time for path, time in first.items()), "it is not trained again"


@pytest.mark.slow("two trainings in processes of their own")
def test_settings_can_be_compared_by_validation_without_reading_the_test(
    words: list[str], cli: Cli, tmp_path: Path
) -> None:
    code, stdout, _ = cli(*words, "--out", tmp_path, "--split", "validation")
    document = json.loads(stdout)
    assert code == 0
    assert (document["split"], document["photographs"]) == ("validation", 6)
    assert not list(tmp_path.glob("*/evaluation.json"))
    assert len(list(tmp_path.glob("*/predictions-validation.csv"))) == 2


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (["full", "nosuch"], "unknown recipe nosuch"),
        (["full", "./full.yaml"], "two recipes are called full; give each another name"),
        (["full", "--seeds", "0"], "--seeds must be at least 1, how many there are, got 0"),
        (["full", "--seeds", "4", "4"], "--seeds must be one or more different numbers, got [4, 4]"),
        (["full", "--seed", "4", "--seeds", "2"], "--seed names one seed and --seeds several; leave out one"),
        (["full", "--final_test", "false"], "--final_test is set by the comparison; leave it out"),
        (["full", "cub", "--base", "dogs"], "cub names no base to replace by dogs"),
        (["full", "--reference", "probe"], "--reference must be one of full, got probe"),
        (
            ["full", "--split", "validation", "--data.birds.species", "4"],
            "full: there are no validation photographs to compare by; choose another --split",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(cli: Cli, tmp_path: Path, more: list[str], line: str) -> None:
    code, stdout, stderr = cli("compare", *more, "--out", tmp_path / "out")
    assert (code, stdout, stderr.count("\n")) == (2, "", 1)
    assert line in stderr
    assert not (tmp_path / "out").exists()
