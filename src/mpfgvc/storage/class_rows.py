"""The rows of `class_accuracy.csv`: the validation accuracy of each class after each epoch.

`stage,epoch,step` and then a column for each class, in 0..1; empty for a class without validation
photographs. A row grows with the classes only, so 8,142 of them and 30 epochs take about a megabyte.
"""

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

_HEADING = ["stage", "epoch", "step"]


@dataclass(frozen=True)
class ClassRow:
    """The accuracies after one epoch, NaN for a class without photographs."""

    stage: str
    epoch: int
    step: int
    accuracies: tuple[float, ...]


def format_class_rows(classes: Sequence[str], rows: Iterable[ClassRow]) -> str:
    """The text of a file with these rows."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_HEADING, *classes])
    for row in rows:
        cells = ("" if math.isnan(each) else f"{each:.3g}" for each in row.accuracies)
        writer.writerow([row.stage, row.epoch, row.step, *cells])
    return text.getvalue()


def read_class_rows(path: Path, classes: Sequence[str]) -> list[ClassRow]:
    """The rows of a file; none if there is no file.

    Raises OSError if it cannot be read, ValueError if it is not such a table of these classes.
    """
    if not path.exists():
        return []
    text = path.read_bytes().decode(errors="surrogateescape")
    try:
        heading, *lines = csv.reader(io.StringIO(text, newline=""))
    except csv.Error as error:
        raise ValueError(str(error)) from None
    if heading != [*_HEADING, *classes]:
        raise ValueError("its columns are not the classes of the run")
    return [_read(line, len(heading)) for line in lines]


def _read(line: Sequence[str], columns: int) -> ClassRow:
    if len(line) != columns:
        raise ValueError(f"a line has {len(line)} cells, not {columns}")
    stage, epoch, step, *cells = line
    accuracies = tuple(float(cell) if cell else math.nan for cell in cells)
    return ClassRow(stage, int(epoch), int(step), accuracies)
