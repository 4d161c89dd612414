"""A run that is killed at any moment and resumed ends with the weights of a run that was not."""

import json
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.killed import process_of, run_to_the_end, run_until

from mpfgvc import CheckpointError, Config, ConfigError, resume, train
from mpfgvc.data.taxonomy_file import read_taxonomy
from mpfgvc.evaluation.calibration import calibration_of
from mpfgvc.inference.saved_model import rewrite_description
from mpfgvc.model.network import SOURCES

Tiny = Callable[..., Config]
QUICK = (5, 9, 13)
SIXTEENTHS = [
    pytest.param(part, marks=() if part in QUICK else pytest.mark.slow("15 moments, two trainings each"))
    for part in range(1, 16)
]
SETTINGS = {"plain": {"stage2.patience": 2}, "starts": {"stage1.start": "features", "stage2.start": "stage1"}}


@pytest.fixture(scope="session")
def whole(tiny: Tiny, once: Callable[..., Path]) -> Callable[[str], tuple[Path, int]]:
    """A run of SETTINGS that nobody stopped, and the number of its file events."""

    def run(name: str) -> tuple[Path, int]:
        def fill(folder: Path) -> None:
            events = run_to_the_end(tiny(SETTINGS[name]), folder / "run")
            (folder / "events").write_text(str(events))

        folder = once(f"whole-{name}", fill)
        return folder / "run", int((folder / "events").read_text())

    return run


def same(run: Path, other: Path) -> None:
    for name in ("model/model.safetensors", "model/model.json", "evaluation.json"):
        assert (run / name).read_bytes() == (other / name).read_bytes(), name
    tensors, expected = (load_file(folder / "stage1.safetensors") for folder in (run, other))
    assert tensors.keys() == expected.keys()
    assert all(torch.equal(tensors[name], expected[name]) for name in expected)
    rows, others = (
        [line.split(",")[:8] for line in (folder / "metrics.csv").read_text().splitlines()] for folder in (run, other)
    )
    assert rows == others
    assert sorted(path.name for path in run.iterdir()) == sorted(path.name for path in other.iterdir())


def go_on(config: Config, run: Path) -> None:
    """Resume; or the same command again, where it was killed before there was anything to resume."""
    run_to_the_end(None if (run / "config.yaml").exists() else config, run)


@pytest.mark.parametrize("part", SIXTEENTHS)
def test_a_run_killed_at_a_moment_and_resumed_ends_with_the_same_bits(
    tiny: Tiny, whole: Callable[[str], tuple[Path, int]], tmp_path: Path, part: int
) -> None:
    unbroken, events = whole("plain")
    run = tmp_path / "run"
    run_until(events * part // 16, tiny(SETTINGS["plain"]), run)
    assert not (run / "evaluation.json").exists(), "it was killed before its end"
    go_on(tiny(SETTINGS["plain"]), run)
    same(run, unbroken)


@pytest.mark.slow("three moments of a training with a start of 200 steps")
@pytest.mark.parametrize("part", [5, 8, 12])
def test_a_run_that_starts_from_what_is_known_is_resumed_to_the_same_bits(
    tiny: Tiny, whole: Callable[[str], tuple[Path, int]], tmp_path: Path, part: int
) -> None:
    unbroken, events = whole("starts")
    run_until(events * part // 16, tiny(SETTINGS["starts"]), tmp_path / "run")
    go_on(tiny(SETTINGS["starts"]), tmp_path / "run")
    same(tmp_path / "run", unbroken)


@pytest.mark.slow("three trainings")
def test_a_run_with_descriptions_is_resumed_without_their_file(tiny: Tiny, tmp_path: Path) -> None:
    words = tmp_path / "words.csv"
    words.write_text("class,sentence\ncross,two bars that cross\ncross,a red cross\ndisc,a round disc\n")
    settings = tiny({"model.descriptions": str(words)})
    events = run_to_the_end(settings, tmp_path / "whole")
    run_until(events // 2, settings, tmp_path / "run")
    words.unlink()
    run_to_the_end(None, tmp_path / "run")
    same(tmp_path / "run", tmp_path / "whole")


@pytest.mark.slow("is killed at three moments by the clock")
def test_a_run_killed_again_and_again_from_outside_ends_with_the_same_bits(
    tiny: Tiny, whole: Callable[[str], tuple[Path, int]], tmp_path: Path
) -> None:
    """The true kill -9, which no line of Python sees coming."""
    settings, run = tiny(SETTINGS["plain"]), tmp_path / "run"
    started = time.perf_counter()
    run_to_the_end(settings, tmp_path / "timed")
    seconds = time.perf_counter() - started
    killed = []
    for share in (0.4, 0.3, 0.5):
        process = process_of(None if (run / "config.yaml").exists() else settings, run)
        process.join(share * seconds)
        process.kill()
        process.join()
        killed.append(process.exitcode == -signal.SIGKILL)
    assert any(killed), "every attempt ended before its kill: the delays test nothing on this machine"
    go_on(settings, run)
    same(run, whole("plain")[0])


def _bytes_of(run: Path) -> dict[str, bytes]:
    return {str(path.relative_to(run)): path.read_bytes() for path in run.rglob("*") if path.is_file()}


def test_a_finished_run_is_left_alone_byte_by_byte_with_all_that_came_later(
    run: Path, tiny: Tiny, tmp_path: Path
) -> None:
    """Batch systems repeat the command. The taxonomy and the calibration were stored after the training."""
    tree = tmp_path / "tree.csv"
    tree.write_text("class,family\ncross,angular\ndisc,round\nstripe,angular\n")
    taxonomy = read_taxonomy(tree, ("cross", "disc", "stripe")).taxonomy
    logits, labels = np.random.default_rng(0).normal(size=(30, 3)), np.arange(30) % 3
    found = calibration_of(dict.fromkeys(SOURCES, logits), labels, taxonomy=taxonomy, photographs="30 others")
    rewrite_description(run / "model", calibration=found, taxonomy=taxonomy)
    (run / "checkpoint.pt").unlink()
    before = _bytes_of(run)
    settings = tiny({"stage1.start": "features"})
    first = json.loads((run / "evaluation.json").read_text())
    for again in (resume(run), train(settings, out=run, auto_resume=True)):
        assert again.metrics is not None
        assert again.metrics.to_dict() == first
    assert _bytes_of(run) == before


def test_a_model_that_lacks_its_test_alone_gets_it_and_stays(run: Path, finished: Path) -> None:
    for name in ("evaluation.json", "predictions-test.csv"):
        (run / name).unlink()
    before = _bytes_of(run)
    resume(run)
    assert before.items() <= {**_bytes_of(run), "digests.json": before["digests.json"]}.items()
    same(run, finished)


def test_a_run_without_its_checkpoint_keeps_the_rows_of_stage_1(tiny: Tiny, run: Path, finished: Path) -> None:
    shutil.rmtree(run / "model")
    for name in ("checkpoint.pt", "evaluation.json", "predictions-test.csv", "training.html"):
        (run / name).unlink()
    resume(run)
    same(run, finished)


# --auto-resume: the same command starts a training and goes on with it.


def test_the_same_call_goes_on_and_then_has_nothing_left_to_do(tiny: Tiny, tmp_path: Path) -> None:
    run = tmp_path / "run"
    events = run_to_the_end(tiny(), tmp_path / "whole")
    run_until(events // 2, tiny(), run)
    goes_on = train(tiny(), out=run, auto_resume=True)
    same(run, tmp_path / "whole")
    again = train(tiny(), out=run, auto_resume=True)
    assert again.to_dict() == goes_on.to_dict()


def test_a_run_of_other_settings_is_refused_by_the_first_that_differs(tiny: Tiny, finished: Path) -> None:
    others = tiny({"stage1.start": "features", "stage1.lr": 0.5})
    with pytest.raises(CheckpointError, match=r"holds a run with stage1\.lr 0\.\d+, but 0\.5 was given"):
        train(others, out=finished, auto_resume=True)


def test_without_it_a_run_is_not_overwritten_and_the_refusal_names_it(tiny: Tiny, finished: Path) -> None:
    with pytest.raises(CheckpointError, match="add --auto-resume"):
        train(tiny(), out=finished)


def test_it_needs_the_name_of_the_folder(tiny: Tiny) -> None:
    with pytest.raises(ConfigError, match="--auto-resume needs --out"):
        train(tiny(), auto_resume=True)
