"""What a training writes about each class: `class_accuracy.csv`, a row for each epoch that was validated.

Like the log of metrics it never stops a training: what cannot be read or written is said once. A resumed run
drops the rows after its checkpoint and writes them again.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from mpfgvc.errors import OutputError, one_line
from mpfgvc.evaluation.metrics import SourceMetrics
from mpfgvc.progress import say
from mpfgvc.storage.class_rows import ClassRow, format_class_rows, read_class_rows
from mpfgvc.storage.metric_rows import is_before
from mpfgvc.storage.whole_files import write_text


class ClassLog:
    """Writes the accuracy of each class, averaged over the sources that a stage trains."""

    def __init__(self, file: Path, classes: Sequence[str]):
        self.file, self.classes = file, tuple(classes)
        self.rows: list[ClassRow] = []
        self.failed = False
        try:
            self.rows = read_class_rows(file, self.classes)
        except (OSError, ValueError) as error:
            say(f"{file} cannot be read and is begun again: {one_line(error)}")

    def rewind(self, stage: str, step: int) -> None:
        """Drop the rows of `stage` after `step` and all of a later stage."""
        self.rows = [
            row for row in self.rows if is_before({"stage": row.stage, "step": row.step}, stage, step)
        ]

    def epoch(self, stage: str, epoch: int, step: int, metrics: Iterable[SourceMetrics]) -> None:
        """Write the row of an epoch."""
        mean = np.mean([each.per_class() for each in metrics], axis=0)
        self.rows.append(ClassRow(stage, epoch, step, tuple(mean.tolist())))
        try:
            write_text(self.file, format_class_rows(self.classes, self.rows))
        except OutputError as error:
            if not self.failed:
                say(f"{self.file} is not written: {one_line(error)}; the training goes on")
            self.failed = True
