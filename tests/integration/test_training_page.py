"""What a training says about itself: its page, the accuracy of its classes, and early signs in real runs."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mpfgvc import Config, train
from mpfgvc.data.photos import Photos
from mpfgvc.storage.metric_rows import read_rows
from mpfgvc.training import signs
from mpfgvc.training.run import resume

Make = Callable[..., Config]
SIGNS = ("never predicted", "does not fall", "waits for photographs")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def _said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    lines = capsys.readouterr().err.splitlines()
    return [line for line in lines if any(sign in line for sign in SIGNS)]


def test_a_healthy_training_ends_with_its_page_and_says_no_sign(
    tiny: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(tiny({"stage1.epochs": 4}), out=tmp_path / "run").path
    page = (run / "training.html").read_text()
    assert _said(capsys) == []
    assert "None was seen" in page
    assert page.count("<polyline") >= 4  # loss and accuracy of two stages
    assert "After the last epoch." in page
    assert "http" not in page.replace("http-equiv", "")
    rows = [row for row in read_rows(run / "metrics.csv") if row["epoch"] != "0"]
    assert [(row["stage"], int(row["epoch"])) for row in rows] == [
        *(("stage1", epoch) for epoch in range(1, 5)),
        *(("stage2", epoch) for epoch in range(1, 3)),
    ]


def test_without_validation_the_page_says_so(tiny: Make, photos: Path, tmp_path: Path) -> None:
    root = tmp_path / "photos"
    shutil.copytree(photos / "train", root)
    settings = {"data.root": str(root), "data.validation": 0.0, "stage1.epochs": 1, "stage2.epochs": 1}
    run = train(tiny(settings), out=tmp_path / "run").path
    assert "There are none, so worst classes are not known" in (run / "training.html").read_text()


def test_a_finished_run_that_is_resumed_keeps_its_page(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    before = (tmp_path / "run" / "training.html").read_bytes()
    resume(tmp_path / "run", device="cpu")
    assert (tmp_path / "run" / "training.html").read_bytes() == before


def test_a_class_that_looks_like_a_larger_one_is_said_to_be_never_predicted(
    tiny: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, count, channel in (("disc", 40, 0), ("twin", 4, 0), ("stripe", 40, 1)):
        (tmp_path / "set" / name).mkdir(parents=True)
        for index in range(count):
            pixels = np.random.default_rng((channel, index)).integers(0, 90, (40, 48, 3), dtype=np.uint8)
            pixels[8:32, 8:40, channel] += 160
            Image.fromarray(pixels).save(tmp_path / "set" / name / f"{index}.png")
    settings = {"data.root": str(tmp_path / "set"), "data.validation": 0.0, "data.test": 0.2}
    settings |= {"stage1.epochs": 6, "stage2.epochs": 3, "stage2.start": "random"}
    run = train(tiny(settings), out=tmp_path / "run").path
    (line,) = [each for each in _said(capsys) if "never predicted" in each]
    assert "classes that are never predicted: 1 of 3 (twin)" in line
    assert "classes that are never predicted" in (run / "training.html").read_text()


def test_a_rate_that_is_too_low_is_said_once(
    tiny: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rates = {"stage1.lr": 1e-9, "stage1.tower_lr": 1e-9, "stage1.warmup_epochs": 0.0, "stage1.epochs": 4}
    train(tiny(rates | {"stage2.epochs": 0}), out=tmp_path / "run")
    (line,) = [each for each in _said(capsys) if "does not fall" in each]
    assert "stage1: the loss does not fall" in line
    assert "stage1.lr is 1e-09" in line


def test_photographs_that_are_read_slowly_are_said_once(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    read = Photos._read

    def slow(self: Photos, epoch: int, index: int) -> object:
        time.sleep(0.2)
        return read(self, epoch, index)

    monkeypatch.setattr(Photos, "_read", slow)
    monkeypatch.setattr(signs, "LEAST_WAIT", 0.3)
    monkeypatch.setattr(signs, "LEAST_STEPS", 3)
    train(tiny({"stage1.epochs": 1, "stage2.epochs": 0}), out=tmp_path / "run")
    (line,) = _said(capsys)
    assert "stage1 waits for photographs" in line
    assert "data.workers" in line
