"""What a training says about itself: `metrics.csv`, TensorBoard and a progress bar.

`metrics.csv` has a row for each epoch of each stage. A resumed run takes back
the rows behind its checkpoint and writes them anew. Only rank 0 has one of these.
"""

import csv
import io
import sys
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from mpfgvc.storage import append_text, write_text

COLUMNS = (
    "stage",
    "epoch",
    "step",
    "loss",
    "accuracy",
    "validation_vision",
    "validation_text",
    "validation_fusion",
    "images_per_second",
    "seconds",
)


class MetricLog:
    """Writes rows and scalars, and shows the progress of a stage on standard error."""

    def __init__(self, csv_file: Path, tensorboard: Path):
        self.csv_file = csv_file
        self.board = SummaryWriter(str(tensorboard))
        self.bar: tqdm[Any] | None = None

    def rewind(self, stage: str, step: int) -> None:
        """Drop the rows of `stage` behind `step` and all of a later stage; write a missing heading."""
        rows: list[dict[str, str]] = []
        if self.csv_file.exists():
            with self.csv_file.open(encoding="utf-8", newline="") as file:
                rows = [row for row in csv.DictReader(file) if _is_before(row, stage, step)]
        write_text(self.csv_file, _as_csv(dict(zip(COLUMNS, COLUMNS, strict=True)), *rows))

    def start_stage(self, stage: str, *, total: int, done: int) -> None:
        """Open the progress bar of a stage that will see `total` images and has seen `done`."""
        self.bar = tqdm(total=total, initial=done, desc=stage, unit="img", file=sys.stderr, mininterval=0.5)

    def step(self, images: int) -> None:
        """An optimiser step on so many images was done."""
        if self.bar is not None:
            self.bar.update(images)

    def show(self, **values: str) -> None:
        """Put values beside the progress bar."""
        if self.bar is not None:
            self.bar.set_postfix(values, refresh=False)

    def epoch(self, row: dict[str, Any]) -> None:
        """Write the row of an epoch."""
        append_text(self.csv_file, _as_csv(row))
        for name, value in row.items():
            if isinstance(value, float):
                self.board.add_scalar(f"{row['stage']}/{name}", value, row["step"])

    def end_stage(self) -> None:
        """Close the progress bar and let TensorBoard see the stage."""
        if self.bar is not None:
            self.bar.close()
        self.board.flush()


def _is_before(row: dict[str, str], stage: str, step: int) -> bool:
    return row["stage"] < stage or (row["stage"] == stage and int(row["step"]) <= step)


def _as_csv(*rows: dict[str, Any]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    for row in rows:
        writer.writerow(
            {key: f"{cell:.6g}" if isinstance(cell, float) else cell for key, cell in row.items()}
        )
    return text.getvalue()
