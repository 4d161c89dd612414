"""What a training says about itself: `metrics.csv`, TensorBoard and a progress bar.

The rows live in the checkpoint, and the file is written anew from them whenever one is added. So a resumed
run has exactly the rows up to its checkpoint, whatever a kill left on the disk; TensorBoard is told to forget
what came before, and gets them anew. The log never stops a
training: what cannot be written is said once. Only rank 0 has a log.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from torch.utils.tensorboard.writer import SummaryWriter

from mpfgvc.errors import one_line
from mpfgvc.files import write_with_digest
from mpfgvc.progress import Bar, say
from mpfgvc.run_folder import Row, format_rows


class MetricLog:
    """Writes rows and scalars, and shows the progress of a stage on standard error.

    `rows` are those of the checkpoint from which the training goes on.
    """

    def __init__(self, csv_file: Path, tensorboard: Path, rows: Iterable[Row] = ()):
        self.csv_file, self.tensorboard, self.rows = csv_file, tensorboard, list(rows)
        self.failed: set[str] = set()
        self.board: SummaryWriter | None = None
        with self._going_on(f"TensorBoard's folder {tensorboard}"):
            self.board = SummaryWriter(tensorboard, purge_step=0)  # steps begin again in each stage
            for row in self.rows:
                self._draw(row)
        self.bar: Bar | None = None
        self._write()

    @contextmanager
    def progress(self, label: str, *, total: int, done: int = 0) -> Iterator[None]:
        """A bar, within the block, of work that will see `total` images and has seen `done`."""
        self.bar = Bar(label, total=total, done=done)
        try:
            yield
        finally:
            self.bar.close()
            self.bar = None

    def step(self, images: int) -> None:
        """An optimiser step on so many images was done."""
        if self.bar is not None:
            self.bar.advance(images)

    def show(self, **values: str) -> None:
        """Put values beside the progress bar."""
        if self.bar is not None:
            self.bar.show(**values)

    def epoch(self, row: Row) -> None:
        """Write the row of an epoch."""
        self.rows.append(row)
        self._write()
        with self._going_on(f"TensorBoard's folder {self.tensorboard}"):
            self._draw(row)

    def passed(self, stage: str, seconds: float) -> None:
        """Write the row of the pass over the photographs that comes before a stage: its epoch 0.

        A resumed run passes again; the row of the pass before is replaced.
        """
        earlier = [row for row in self.rows if row["stage"] < stage]
        later = [row for row in self.rows if row["stage"] >= stage and row["epoch"] > 0]
        self.rows = [*earlier, {"stage": stage, "epoch": 0, "step": 0, "seconds": seconds}, *later]
        self._write()

    def first_loss(self, stage: str) -> float | None:
        """The loss of the first epoch of a stage; None before its end."""
        return next((row["loss"] for row in self.rows if row["stage"] == stage and row["epoch"] == 1), None)

    def close(self) -> None:
        """End TensorBoard's file."""
        if self.board is not None:
            self.board.close()

    def _draw(self, row: Row) -> None:
        """Show the row of an epoch in TensorBoard; the pass before a stage, epoch 0, is not one."""
        if self.board is not None and row["epoch"] > 0:
            for name, value in row.items():
                if isinstance(value, float):
                    self.board.add_scalar(f"{row['stage']}/{name}", value, row["step"])
            self.board.flush()

    def _write(self) -> None:
        """Write all rows, so that rows lost to a full disk are written once there is room."""
        with self._going_on(str(self.csv_file)):
            write_with_digest(self.csv_file, format_rows(self.rows).encode())

    @contextmanager
    def _going_on(self, what: str) -> Iterator[None]:
        """Say the first failure of a kind, and go on."""
        try:
            yield
        except Exception as error:  # whatever a log meets must not stop a training
            if what not in self.failed:
                self.failed.add(what)
                reason = one_line(error).removeprefix(f"cannot write {what}: ")
                say(f"{what} is not written: {reason}; the training goes on")
