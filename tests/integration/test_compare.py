"""`mpfgvc compare`: a table from real trainings, skipped where done, continued where killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mpfgvc.run_folder import RunFolder

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def words(tiny_words: list[str]) -> list[str]:
    """Two recipes on `photos`; the first trains for some seconds, with a checkpoint at every step."""
    return [
        *("compare", "full", "without-text", "--seeds", "1", "--json"),
        *(*tiny_words, "--stage1.epochs=12", "--stage1.start=random", "--stage2.start=random"),
        *("--checkpoint_steps=1", "--model.context_tokens=2"),
    ]


@pytest.fixture(scope="module")
def uninterrupted(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder and the document of a comparison that nothing disturbed."""
    out = tmp_path_factory.mktemp("compare") / "out"
    return out, json.loads(_mpfgvc(*words, "--out", str(out)).stdout)


def _mpfgvc(*words: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "mpfgvc", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def _results(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows without what depends on the clock and on the machine."""
    return [
        {name: value for name, value in row.items() if name not in ("minutes", "peak_bytes")}
        for row in document["recipes"]
    ]


def _child_of(process: int) -> int:
    """The process that trains for another."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    commands = {int(child): Path(f"/proc/{child}/cmdline").read_text() for child in children}
    return next(child for child, command in commands.items() if "spawn_main" in command)


def _wait_until(seen: Callable[[], bool], process: subprocess.Popen[bytes] | None = None) -> None:
    """Wait, for two minutes at most, until something is seen."""
    end = time.monotonic() + 120
    while not seen():
        assert time.monotonic() < end
        assert process is None or process.poll() is None, "the comparison ended before it was seen"
        time.sleep(0.005)


@pytest.mark.slow("several trainings in processes of their own")
def test_a_comparison_writes_its_table_and_trains_nothing_twice(
    uninterrupted: tuple[Path, dict[str, Any]], words: list[str], cli: Cli
) -> None:
    out, document = uninterrupted
    assert [row["name"] for row in document["recipes"]] == ["full", "without-text"]
    assert [row["prediction"] for row in document["recipes"]] == ["fusion", "vision"]
    assert (document["reference"], document["split"], document["photographs"]) == ("full", "test", 15)
    for row in document["recipes"]:
        folder = RunFolder(out / f"{row['name']}-0")
        assert row["accuracies"] == [json.loads(folder.evaluation.read_text())["top1"]]
        assert row["peak_bytes"] > 10**8
        assert row["minutes"] > 0
    assert {path.name for path in out.iterdir()} == {
        *("full-0", "without-text-0", "table.csv", "table.md", "comparison.json", "index.html")
    }
    before = {path: path.stat().st_mtime_ns for path in out.glob("*-0/**/*") if path.is_file()}
    code, stdout, stderr = cli(*words, "--out", out)
    assert (code, stderr) == (0, "")
    assert json.loads(stdout) == document
    assert before == {path: path.stat().st_mtime_ns for path in out.glob("*-0/**/*") if path.is_file()}


@pytest.mark.slow("several trainings in processes of their own")
def test_runs_with_other_settings_are_refused_before_anything_is_trained(
    uninterrupted: tuple[Path, dict[str, Any]], words: list[str], cli: Cli
) -> None:
    out, _ = uninterrupted
    code, stdout, stderr = cli(*words, "--out", out, "--stage1.lr", "0.5", "--device", "auto")
    assert (code, stdout) == (2, "")
    rule = f"{out}/full-0 holds a run with other settings (stage1.lr 0.001, now 0.5)"
    assert stderr == f"mpfgvc: {rule}; choose another --out, or remove that folder\n"


@pytest.mark.slow("several trainings in processes of their own")
@pytest.mark.skipif(sys.platform != "linux", reason="finds the training in /proc")
def test_a_comparison_that_is_killed_in_its_second_run_gives_the_same_table_when_it_is_started_again(
    uninterrupted: tuple[Path, dict[str, Any]], words: list[str], tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "mpfgvc", *words, "--out", str(tmp_path)]
    second = RunFolder(tmp_path / "without-text-0")
    nowhere = subprocess.DEVNULL
    with subprocess.Popen(command, stdout=nowhere, stderr=nowhere) as process:
        _wait_until(second.checkpoint.exists, process)
        child = _child_of(process.pid)
        os.kill(process.pid, signal.SIGKILL)
    _wait_until(lambda: not Path(f"/proc/{child}").exists())  # it ends with the process that started it
    assert not second.stage1.exists(), "it was killed in the middle"
    assert not second.evaluation.exists()
    first = (tmp_path / "full-0" / "metrics.csv").read_bytes()
    again = json.loads(_mpfgvc(*words, "--out", str(tmp_path)).stdout)
    assert _results(again) == _results(uninterrupted[1])
    assert (tmp_path / "full-0" / "metrics.csv").read_bytes() == first, "what was done is not done again"


@pytest.mark.slow("several trainings in processes of their own")
def test_settings_can_be_compared_by_validation_without_reading_the_test(
    words: list[str], cli: Cli, tmp_path: Path
) -> None:
    code, stdout, _ = cli(*words, "--out", tmp_path, "--split", "validation", "--stage1.epochs=1")
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
        (["full", "cub", "--base", "dogs"], "cub states all its settings and has no base to replace by dogs"),
        (["full", "--reference", "probe"], "--reference must be one of full, got probe"),
        (
            ["full", "--split", "validation", "--data.birds.species", "4"],
            "full: there are no validation photographs to compare by; choose another --split",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(
    cli: Cli, tmp_path: Path, more: list[str], line: str
) -> None:
    code, stdout, stderr = cli("compare", *more, "--out", tmp_path / "out")
    assert (code, stdout, stderr.count("\n")) == (2, "", 1)
    assert line in stderr
    assert not (tmp_path / "out").exists()
