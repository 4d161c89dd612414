"""The log has a row for each epoch, goes on from the rows of a checkpoint, and never stops a training."""

from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mpfgvc import CheckpointError
from mpfgvc.files import DIGESTS
from mpfgvc.run_folder import COLUMNS, read_rows, training_seconds
from mpfgvc.training.log import MetricLog

STEPS = [("stage1", 3), ("stage1", 6), ("stage1", 9), ("stage2", 4), ("stage2", 8)]


def _row(stage: str, step: int) -> dict[str, Any]:
    row = {"stage": stage, "epoch": step // 3, "step": step, "loss": step / 7, "accuracy": 0.5}
    return row | {"seconds": 12.25}


def _log(folder: Path, rows: list[dict[str, Any]] | None = None) -> MetricLog:
    return MetricLog(folder / "metrics.csv", folder / "tensorboard", rows or [])


def _written(folder: Path) -> list[tuple[str, int]]:
    return [(str(row["stage"]), int(row["epoch"])) for row in read_rows(folder / "metrics.csv")]


def _board(folder: Path) -> EventAccumulator:
    board = EventAccumulator(str(folder / "tensorboard"))
    board.Reload()
    return board


def test_a_row_has_a_cell_for_each_column_and_is_read_again(tmp_path: Path) -> None:
    log = _log(tmp_path)
    for stage, step in STEPS:
        log.epoch(_row(stage, step))
    heading, first, *_ = (tmp_path / "metrics.csv").read_text().splitlines()
    assert heading == ",".join(COLUMNS)
    assert first == "stage1,1,3,0.428571,0.5,,,,,12.25"
    rows = read_rows(tmp_path / "metrics.csv")
    assert [(row["stage"], int(row["step"])) for row in rows] == STEPS
    assert training_seconds(rows) == 5 * 12.25


def test_a_run_that_goes_on_has_the_rows_of_its_checkpoint_whatever_the_file_holds(tmp_path: Path) -> None:
    whole = _log(tmp_path)
    for stage, step in STEPS:
        whole.epoch(_row(stage, step))
    before = (tmp_path / "metrics.csv").read_bytes()
    kept = whole.rows[:3]
    for damage in (before, before[:70], b"", b"\xff\x00"):
        (tmp_path / "metrics.csv").write_bytes(damage)
        resumed = _log(tmp_path, kept)
        assert len(_written(tmp_path)) == 3
        for stage, step in STEPS[3:]:
            resumed.epoch(_row(stage, step))
        assert (tmp_path / "metrics.csv").read_bytes() == before


def test_a_pass_over_the_photographs_has_one_row_before_its_stage(tmp_path: Path) -> None:
    log = _log(tmp_path)
    log.passed("features", 1.0)
    log.epoch(_row("stage1", 3))
    log.passed("stage2", 2.0)
    log.epoch(_row("stage2", 4))
    log.passed("stage2", 0.5)
    assert _written(tmp_path) == [("features", 0), ("stage1", 1), ("stage2", 0), ("stage2", 1)]
    assert training_seconds(read_rows(tmp_path / "metrics.csv")) == 1 + 0.5 + 2 * 12.25
    assert (log.first_loss("stage1"), log.first_loss("features")) == (3 / 7, None)


def test_tensorboard_reads_the_scalars(tmp_path: Path) -> None:
    log = _log(tmp_path)
    for stage, step in STEPS:
        log.epoch(_row(stage, step))
    board = _board(tmp_path)
    assert set(board.Tags()["scalars"]) >= {"stage1/loss", "stage1/accuracy", "stage2/seconds"}
    assert [event.step for event in board.Scalars("stage1/loss")] == [3, 6, 9]
    assert [event.value for event in board.Scalars("stage2/loss")] == pytest.approx([4 / 7, 8 / 7])


def test_tensorboard_shows_each_epoch_once_after_a_kill(tmp_path: Path) -> None:
    killed = _log(tmp_path)
    for stage, step in STEPS:
        killed.epoch(_row(stage, step))
    resumed = _log(tmp_path, killed.rows[:4])  # the last epoch is behind the checkpoint
    resumed.epoch(_row("stage2", 8) | {"loss": 9.0})
    board = _board(tmp_path)
    assert [event.step for event in board.Scalars("stage1/loss")] == [3, 6, 9]
    assert [event.value for event in board.Scalars("stage2/loss")] == pytest.approx([4 / 7, 9.0])


def test_what_cannot_be_written_is_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "metrics.csv").mkdir()
    (tmp_path / "tensorboard").write_text("in the way")
    log = _log(tmp_path)
    for stage, step in STEPS:
        log.epoch(_row(stage, step))
    said = capsys.readouterr().err.splitlines()
    names = [f"TensorBoard's folder {tmp_path / 'tensorboard'}", f"{tmp_path / 'metrics.csv'}"]
    assert [line.split(" is not written: ")[0] for line in said] == [f"mpfgvc: {name}" for name in names]
    assert all(line.endswith("; the training goes on") for line in said)
    (tmp_path / "metrics.csv").rmdir()
    log.epoch(_row("stage2", 12))
    assert len(_written(tmp_path)) == 6, "nothing is lost once there is room"


@pytest.mark.parametrize("content", ["loss,step\n1,2\n", ",".join(COLUMNS) + "\nstage1,1,3\n", "\0"])
def test_a_damaged_file_is_refused_by_its_readers(tmp_path: Path, content: str) -> None:
    _log(tmp_path).epoch(_row("stage1", 4))
    (tmp_path / "metrics.csv").write_text(content)
    with pytest.raises(CheckpointError, match=r"metrics\.csv is damaged: its content does not match"):
        read_rows(tmp_path / "metrics.csv")
    (tmp_path / DIGESTS).unlink()
    with pytest.raises(CheckpointError, match=r"metrics\.csv cannot be read .*; restore it from a copy"):
        read_rows(tmp_path / "metrics.csv")
