"""The log has a row for each epoch, and nothing that happens to it stops a training."""

from __future__ import annotations

import csv
import errno
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mpfgvc.storage.metric_rows import COLUMNS, Row, training_seconds
from mpfgvc.training.metric_log import MetricLog

STEPS = [("stage1", 3), ("stage1", 6), ("stage1", 9), ("stage2", 4), ("stage2", 8)]


def _row(stage: str, step: int) -> Row:
    return {
        "stage": stage,
        "epoch": step // 3,
        "step": step,
        "loss": step / 7,
        "accuracy": 0.5,
        "seconds": 12.25,
    }


def _log(folder: Path) -> MetricLog:
    return MetricLog(folder / "metrics.csv", folder / "tensorboard")


def _write_all(folder: Path) -> None:
    log = _log(folder)
    for stage, step in STEPS:
        if step < 5:
            log.rewind(stage, 0)
        log.epoch(_row(stage, step))


def _steps(folder: Path) -> list[tuple[str, int]]:
    with (folder / "metrics.csv").open(encoding="utf-8", newline="") as file:
        return [(row["stage"], int(row["step"])) for row in csv.DictReader(file)]


def _resume(folder: Path) -> None:
    """What a run does that continues in stage 2, after step 4."""
    log = _log(folder)
    log.rewind("stage2", 4)
    log.epoch(_row("stage2", 8))


def test_a_row_has_a_cell_for_each_column(tmp_path: Path) -> None:
    log = _log(tmp_path)
    log.rewind("stage1", 0)
    log.epoch(_row("stage1", 3))
    heading, row = (tmp_path / "metrics.csv").read_text().splitlines()
    assert heading == ",".join(COLUMNS)
    assert row == "stage1,1,3,0.428571,0.5,,,,,12.25"


@pytest.mark.parametrize(
    ("stage", "step", "kept"),
    [("stage1", 0, 0), ("stage1", 6, 2), ("stage1", 7, 2), ("stage2", 0, 3), ("stage2", 4, 4)],
)
def test_a_resumed_run_takes_back_the_rows_after_its_checkpoint(
    tmp_path: Path, stage: str, step: int, kept: int, capsys: pytest.CaptureFixture[str]
) -> None:
    _write_all(tmp_path)
    before = (tmp_path / "metrics.csv").read_text().splitlines()
    _log(tmp_path).rewind(stage, step)
    assert (tmp_path / "metrics.csv").read_text().splitlines() == before[: kept + 1]
    assert capsys.readouterr().err == ""


def test_a_file_of_an_older_version_with_fewer_columns_is_taken_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "metrics.csv").write_text("stage,epoch,step,loss\r\nstage1,1,3,0.25\r\n")
    _log(tmp_path).rewind("stage1", 3)
    assert (tmp_path / "metrics.csv").read_text().splitlines()[1] == "stage1,1,3,0.25,,,,,,"
    assert capsys.readouterr().err == ""


def test_rows_with_values_that_are_not_finite_are_kept(tmp_path: Path) -> None:
    log = _log(tmp_path)
    log.rewind("stage1", 0)
    log.epoch({"stage": "stage1", "epoch": 1, "step": 3, "loss": float("nan"), "accuracy": float("inf")})
    _log(tmp_path).rewind("stage1", 3)
    assert _steps(tmp_path) == [("stage1", 3)]


def test_tensorboard_reads_the_scalars(tmp_path: Path) -> None:
    _write_all(tmp_path)
    board = EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    assert set(board.Tags()["scalars"]) >= {"stage1/loss", "stage1/accuracy", "stage2/seconds"}
    assert [event.step for event in board.Scalars("stage1/loss")] == [3, 6, 9]
    assert [event.value for event in board.Scalars("stage2/loss")] == pytest.approx([4 / 7, 8 / 7])


def test_no_thread_is_started(tmp_path: Path) -> None:
    before = threading.active_count()
    _log(tmp_path)
    assert threading.active_count() == before


def _flip(content: bytes, position: int, bit: int) -> bytes:
    flipped = bytearray(content)
    flipped[position] ^= 1 << bit
    return bytes(flipped)


def _without_column(content: bytes, column: int) -> bytes:
    lines = [line.split(b",") for line in content.splitlines()]
    return b"\n".join(b",".join(line[:column] + line[column + 1 :]) for line in lines) + b"\n"


def _mutations(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Files that a full disk, a failing disk, an editor or a spreadsheet may leave."""
    size, text = len(content), content.decode()
    yield from ((f"cut at {at}", content[:at]) for at in range(0, size, 5))
    yield from ((f"bit {at % 8} of byte {at}", _flip(content, at, at % 8)) for at in range(0, size, 3))
    yield from ((f"high bit of byte {at}", _flip(content, at, 7)) for at in range(0, size, 11))
    for at in range(0, size, 40):
        yield f"zeros at {at}", content[:at] + bytes(16) + content[at + 16 :]
        yield f"a line break at {at}", content[:at] + b"\n" + content[at:]
        yield f"a quote at {at}", content[:at] + b'"' + content[at:]
        yield f"a comma at {at}", content[:at] + b"," + content[at:]
    yield from ((f"no column {number}", _without_column(content, number)) for number in range(len(COLUMNS)))
    yield from ((name, text.encode(name)) for name in ("utf-16", "utf-32", "utf-8-sig", "cp037"))
    yield "semicolons", content.replace(b",", b";")
    yield "tabs", content.replace(b",", b"\t")
    yield "carriage returns", content.replace(b"\n", b"\r")
    yield "heading twice", content.splitlines(keepends=True)[0] + content
    yield "no heading", content.split(b"\n", 1)[1]
    yield "more columns", content.replace(b"\n", b",extra\n")
    yield "a column twice", content.replace(b"accuracy", b"loss")
    yield "binary", bytes(range(256)) * 40
    yield "only zeros", bytes(4096)
    yield "a huge cell", content + b"stage1,1," + b"9" * 300_000 + b",0,0,0,0,0,0,0\n"
    yield "a huge line", content + b"," * 500_000 + b"\n"
    yield "a huge number", content + b"stage1,1,3,1" + b"0" * 5000 + b",0,0,0,0,0,0\n"
    yield "other digits", content.replace(b"3", "\u0663".encode())
    yield "negative step", content.replace(b",3,", b",-3,")
    yield "twice", content + content


def test_no_damage_to_the_file_stops_a_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _write_all(tmp_path)
    content = (tmp_path / "metrics.csv").read_bytes()
    whole = _steps(tmp_path)
    mutations = list(_mutations(content))
    assert len(mutations) > 200
    capsys.readouterr()
    for name, mutated in mutations:
        folder = tmp_path / "copy"
        for path in folder.glob("metrics*"):
            path.unlink()
        folder.mkdir(exist_ok=True)
        (folder / "metrics.csv").write_bytes(mutated)
        _resume(folder)
        said = capsys.readouterr().err.splitlines()
        kept = folder / "metrics.damaged.csv"
        assert len(said) == kept.exists(), name
        if kept.exists():
            assert kept.read_bytes() == mutated, name
            assert said[0].startswith(f"mpfgvc: {folder / 'metrics.csv'} cannot be read whole: "), name
        assert _steps(folder)[-1] == ("stage2", 8), name
        if name.startswith(("cut", "zeros", "binary", "only")) and len(mutated) > 0:
            assert kept.exists() or set(_steps(folder)) <= set(whole), name


def test_the_readable_rows_of_a_damaged_file_are_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _write_all(tmp_path)
    lines = (tmp_path / "metrics.csv").read_bytes().splitlines(keepends=True)
    (tmp_path / "metrics.csv").write_bytes(
        b"".join([*lines[:2], bytes(20), b"\n", *lines[3:-1], lines[-1][:-6]])
    )
    capsys.readouterr()
    _resume(tmp_path)
    assert _steps(tmp_path) == [("stage1", 3), ("stage1", 9), ("stage2", 4), ("stage2", 8)]
    assert "2 of its lines cannot be read; it is now metrics.damaged.csv" in capsys.readouterr().err


def _as_folder(path: Path) -> None:
    (path / "something").mkdir(parents=True)


def _as_file(path: Path) -> None:
    path.write_text("")


def _as_pipe(path: Path) -> None:
    os.mkfifo(path)


def _as_lost_link(path: Path) -> None:
    path.symlink_to(path.parent / "missing" / "metrics.csv")


@pytest.mark.parametrize("put", [_as_folder, _as_pipe, _as_lost_link])
def test_what_is_no_file_is_moved_out_of_the_way(
    tmp_path: Path, put: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path / "metrics.csv")
    _resume(tmp_path)
    assert _steps(tmp_path) == [("stage2", 8)]
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("put", [_as_file, _as_lost_link])
def test_a_folder_for_tensorboard_that_cannot_be_made_is_said_once(
    tmp_path: Path, put: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path / "tensorboard")
    if put is _as_lost_link:
        (tmp_path / "missing").write_text("")
    _write_all(tmp_path)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"mpfgvc: TensorBoard's folder {tmp_path / 'tensorboard'} is not written: ")
    assert _steps(tmp_path) == STEPS


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC, errno.EIO])
def test_a_disk_that_refuses_is_said_once_and_the_rows_are_written_when_it_works_again(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = _log(tmp_path)

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patches:
        patches.setattr(os, "replace", refuse)
        log.rewind("stage1", 0)
        for stage, step in STEPS[:3]:
            log.epoch(_row(stage, step))
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"mpfgvc: {tmp_path / 'metrics.csv'} is not written: ")
        assert os.strerror(number) in line
    log.rewind("stage2", 0)
    log.epoch(_row(*STEPS[3]))
    assert _steps(tmp_path) == STEPS[:4]
    assert capsys.readouterr().err == ""


def test_a_disk_that_becomes_full_stops_neither_the_training_nor_its_end(tmp_path: Path) -> None:
    code = (
        "import resource, sys\nfrom pathlib import Path\n"
        "from mpfgvc.training.metric_log import MetricLog\n"
        "folder = Path(sys.argv[1])\n"
        "log = MetricLog(folder / 'metrics.csv', folder / 'tensorboard')\n"
        "log.rewind('stage1', 0)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))\n"
        "for step in range(1, 40):\n"
        "    log.epoch({'stage': 'stage1', 'epoch': step, 'step': step, 'loss': 0.5, 'seconds': 1.5})\n"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    said = sorted(done.stderr.splitlines())
    names = [f"{tmp_path / 'metrics.csv'}", f"TensorBoard's folder {tmp_path / 'tensorboard'}"]
    assert [line.split(" is not ")[0] for line in said] == [f"mpfgvc: {name}" for name in names]
    assert all("File too large" in line for line in said)
    assert len(_steps(tmp_path)) > 1


def test_the_pass_before_a_stage_is_its_epoch_0_once_however_often_a_run_passes(tmp_path: Path) -> None:
    log = _log(tmp_path)
    log.rewind("stage1", 0)
    log.epoch({"stage": "stage1", "epoch": 1, "step": 3, "loss": 0.5, "seconds": 1.5})
    log.passed("stage2", 0.25)
    log.rewind("stage2", 0)
    log.epoch({"stage": "stage2", "epoch": 1, "step": 4, "loss": 0.5, "seconds": 2.0})
    resumed = _log(tmp_path)
    resumed.passed("stage2", 0.75)
    resumed.rewind("stage2", 4)
    lines = (tmp_path / "metrics.csv").read_text().splitlines()[1:]
    assert [line.split(",")[:3] for line in lines] == [
        ["stage1", "1", "3"],
        ["stage2", "0", "0"],
        ["stage2", "1", "4"],
    ]
    assert training_seconds(tmp_path / "metrics.csv") == 1.5 + 0.75 + 2.0
    assert training_seconds(tmp_path / "none.csv") == 0
