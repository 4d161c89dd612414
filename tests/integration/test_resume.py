"""A run that is killed at any moment and resumed ends with the weights of a run that was not."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mpfgvc.config import Config

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["mpfgvc.training.run"])

# (event, how often it happens before the kill). A stage has 3 steps an epoch, a checkpoint every 2 steps.
MOMENTS = [
    ("step of stage1", 0),
    ("step of stage1", 2),
    ("step of stage1", 3),
    ("step of stage1", 5),
    ("half-written file", 0),
    ("half-written file", 2),
    ("half-written file", 4),
    ("unnamed file", 2),
    ("stage 2 begins", 0),
    ("step of stage2", 0),
    ("step of stage2", 3),
    ("model is saved", 0),
    ("test", 0),
]


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _after(count: int, function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, but the process dies at its call number `count`, from 0."""
    calls = iter(range(10**9))

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == count:
            _die()
        return function(*args, **kwargs)

    return wrapped


def _set_trap(moment: str, count: int) -> None:
    from mpfgvc.inference import saved_model
    from mpfgvc.storage import digests
    from mpfgvc.storage.part_files import part_path
    from mpfgvc.training import checkpoint, feature_start, run, stages

    def trap(owner: Any, name: str) -> None:
        setattr(owner, name, _after(count, getattr(owner, name)))

    if moment == "half-written file":
        write = digests.write_with_digest

        def half(path: Path, content: bytes) -> None:
            part_path(path).write_bytes(content[: len(content) // 2])
            _die()

        calls = iter(range(10**9))
        checkpoint.write_with_digest = lambda *args: half(*args) if next(calls) == count else write(*args)
        return
    trap(
        *{
            "step of features": (feature_start.FeatureStart, "forward"),
            "step of stage1": (stages.Stage1, "forward"),
            "step of stage2": (stages.Stage2, "forward"),
            "unnamed file": (os, "fsync"),
            "stage 2 begins": (run, "train_stage2"),
            "model is saved": (saved_model, "write_with_digest"),
            "test": (run, "evaluate_photos"),
        }[moment]
    )


def _run(config: Config | None, out: Path, moment: str | None, count: int) -> None:
    import torch

    from mpfgvc.training.run import resume, train

    torch.set_num_threads(1)
    if moment is not None:
        _set_trap(moment, count)
    train(config, out=out) if config is not None else resume(out)


def _in_process(config: Config | None, out: Path, moment: str | None = None, count: int = 0) -> int:
    process = PROCESSES.Process(target=_run, args=(config, out, moment, count))
    process.start()
    process.join(120)
    assert process.exitcode is not None
    return process.exitcode


@pytest.fixture(scope="module")
def settings(tiny: Callable[..., Config]) -> Config:
    # Stochastic depth and an average of the weights: a resumed run must not lose their state.
    return tiny({"model.image_tower.drop_path": 0.2, "stage1.ema": 0.9, "stage2.patience": 2})


@pytest.fixture(scope="module")
def whole_run(settings: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody stopped."""
    out = tmp_path_factory.mktemp("whole") / "run"
    assert _in_process(settings, out) == 0
    return out


def _same(run: Path, whole: Path) -> None:
    for name in ("stage1.safetensors", "model/model.safetensors", "model/model.json", "evaluation.json"):
        assert (run / name).read_bytes() == (whole / name).read_bytes(), name
    columns = [
        [line.split(",")[:8] for line in (folder / "metrics.csv").read_text().splitlines()]
        for folder in (run, whole)
    ]
    assert columns[0] == columns[1]
    assert sorted(path.name for path in run.iterdir()) == sorted(path.name for path in whole.iterdir())


@pytest.mark.parametrize(("moment", "count"), MOMENTS)
def test_a_run_killed_at_a_moment_and_resumed_ends_with_the_same_bits(
    settings: Config, whole_run: Path, tmp_path: Path, moment: str, count: int
) -> None:
    run = tmp_path / "run"
    assert _in_process(settings, run, moment, count) == -signal.SIGKILL
    if (run / "config.yaml").exists():
        assert _in_process(None, run) == 0
    else:  # killed before there was anything to resume: the same command again
        assert _in_process(settings, run) == 0
    _same(run, whole_run)


@pytest.mark.parametrize(("moment", "count"), [("step of stage1", 3), ("step of stage2", 3), ("test", 0)])
def test_a_run_with_descriptions_is_resumed_without_their_file_and_ends_with_the_same_bits(
    tiny: Callable[..., Config], tmp_path: Path, moment: str, count: int
) -> None:
    words = tmp_path / "words.csv"
    settings = tiny({"model.descriptions": str(words)})
    words.write_text("class,sentence\ncross,two bars that cross\ncross,a red cross\ndisc,a round disc\n")
    assert _in_process(settings, tmp_path / "whole") == 0
    assert _in_process(settings, tmp_path / "run", moment, count) == -signal.SIGKILL
    words.unlink()
    assert _in_process(None, tmp_path / "run") == 0
    _same(tmp_path / "run", tmp_path / "whole")


@pytest.mark.parametrize(
    ("moment", "count"),
    [("step of features", 5), ("step of stage1", 0), ("step of stage1", 4), ("step of stage2", 3)],
)
def test_a_run_that_starts_from_what_is_known_is_resumed_to_the_same_bits(
    tiny: Callable[..., Config], tmp_path: Path, moment: str, count: int
) -> None:
    settings = tiny({"stage1.start": "features", "stage2.start": "stage1"})
    assert _in_process(settings, tmp_path / "whole") == 0
    assert _in_process(settings, tmp_path / "run", moment, count) == -signal.SIGKILL
    assert _in_process(None, tmp_path / "run") == 0
    _same(tmp_path / "run", tmp_path / "whole")
    rows = (tmp_path / "run" / "metrics.csv").read_text().splitlines()[1:]
    with_passes = ["features"] * 2 + ["stage1"] * 2 + ["stage2"] * 3
    assert [row.split(",")[0] for row in rows] == with_passes


def test_a_run_killed_again_and_again_at_random_times_ends_with_the_same_bits(
    settings: Config, whole_run: Path, tmp_path: Path
) -> None:
    started = time.perf_counter()
    assert _in_process(settings, tmp_path / "timed") == 0
    whole = time.perf_counter() - started
    run = tmp_path / "run"
    kills = 0
    for delay in (0.4 * whole, 0.25 * whole, 0.5 * whole, 0.3 * whole, 60):
        config = None if (run / "config.yaml").exists() else settings
        process = PROCESSES.Process(target=_run, args=(config, run, None, 0))
        process.start()
        process.join(delay)
        if process.exitcode is None:
            process.kill()
            process.join()
            kills += 1
            continue
        assert process.exitcode == 0
        break
    assert kills > 0, "every attempt finished before its kill: the delays test nothing on this machine"
    _same(run, whole_run)


def test_resuming_a_finished_run_changes_nothing(whole_run: Path) -> None:
    before = {path: path.read_bytes() for path in (whole_run / "model").iterdir()}
    started = time.time()
    assert _in_process(None, whole_run) == 0
    assert {path: path.read_bytes() for path in (whole_run / "model").iterdir()} == before
    assert (whole_run / "stage1.safetensors").stat().st_mtime < started
