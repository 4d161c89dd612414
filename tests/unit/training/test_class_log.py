"""The accuracies of classes are logged, forgotten after a checkpoint, and never stop a training."""

from pathlib import Path

import pytest
from tests.made_answers import metrics_of

from mpfgvc.evaluation.metrics import SourceMetrics
from mpfgvc.storage.class_rows import read_class_rows
from mpfgvc.training.class_log import ClassLog

CLASSES = ("auk", "tern")


def metrics(right: int) -> SourceMetrics:
    """`right` of 4 auks, and 1 of 2 terns."""
    return metrics_of({(0, 0): right, (0, 1): 4 - right, (1, 0): 1, (1, 1): 1}, 2)


def test_a_row_is_the_mean_over_the_sources_and_a_resumed_run_goes_on_from_its_checkpoint(
    tmp_path: Path,
) -> None:
    file = tmp_path / "class_accuracy.csv"
    log = ClassLog(file, CLASSES)
    log.epoch("stage1", 1, 10, [metrics(1), metrics(2)])
    log.epoch("stage1", 2, 20, [metrics(3), metrics(3)])
    again = ClassLog(file, CLASSES)
    again.rewind("stage1", 10)
    again.epoch("stage1", 2, 20, [metrics(4)])
    found = [(row.step, row.accuracies) for row in read_class_rows(file, CLASSES)]
    assert found == [(10, (0.375, 0.5)), (20, (1.0, 0.5))]


def test_what_cannot_be_written_or_read_is_said_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.csv").write_text("something else\n")
    ClassLog(tmp_path / "c.csv", CLASSES)
    assert "c.csv cannot be read and is begun again" in capsys.readouterr().err
    (tmp_path / "file").touch()
    log = ClassLog(tmp_path / "file" / "c.csv", CLASSES)
    log.epoch("stage1", 1, 10, [metrics(1)])
    log.epoch("stage1", 2, 20, [metrics(1)])
    assert capsys.readouterr().err.count("is not written") == 1
