"""The accuracies of classes after each epoch, written and read."""

import math
from pathlib import Path

import pytest

from mpfgvc.storage.class_rows import ClassRow, format_class_rows, read_class_rows

CLASSES = ("auk", 'tern, "arctic"', "stage")


def test_what_is_written_is_read(tmp_path: Path) -> None:
    rows = [
        ClassRow("stage1", 1, 20, (0.5, math.nan, 1.0)),
        ClassRow("stage2", 1, 9, (0.25, math.nan, 0.125)),
    ]
    (tmp_path / "c.csv").write_text(format_class_rows(CLASSES, rows))
    found = read_class_rows(tmp_path / "c.csv", CLASSES)
    assert [(each.stage, each.epoch, each.step) for each in found] == [("stage1", 1, 20), ("stage2", 1, 9)]
    assert found[0].accuracies[::2] == (0.5, 1.0)
    assert math.isnan(found[1].accuracies[1])


def test_no_file_has_no_rows(tmp_path: Path) -> None:
    assert read_class_rows(tmp_path / "none.csv", CLASSES) == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("stage,epoch,step,auk\n", "not the classes"),
        ('stage,epoch,step,auk,"tern, ""arctic""",stage\nstage1,1,2,0.5\n', "4 cells, not 6"),
        ("", "not enough values"),
    ],
)
def test_another_table_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "c.csv").write_text(text)
    with pytest.raises(ValueError, match=reason):
        read_class_rows(tmp_path / "c.csv", CLASSES)
