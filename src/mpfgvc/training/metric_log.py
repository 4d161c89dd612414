"""What a training says about itself: `metrics.csv`, TensorBoard and a progress bar.

A resumed run drops the rows after its checkpoint and writes them again. The log never
stops a training: what cannot be written or read is said once, and the training goes on.
Only rank 0 has a log.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mpfgvc.errors import one_line
from mpfgvc.progress import Bar, say
from mpfgvc.storage.metric_rows import Row, format_rows, is_before, read_rows
from mpfgvc.storage.whole_files import write_text
from mpfgvc.training.scalar_file import ScalarFile


class MetricLog:
    """Writes rows and scalars, and shows the progress of a stage on standard error."""

    def __init__(self, csv_file: Path, tensorboard: Path):
        self.csv_file, self.tensorboard = csv_file, tensorboard
        self.rows: list[Row] | None = None
        self.board: ScalarFile | None = None
        self.failed: set[str] = set()
        with self._going_on(f"TensorBoard's folder {tensorboard}"):
            self.board = ScalarFile(tensorboard)
        self.bar: Bar | None = None

    def rewind(self, stage: str, step: int) -> None:
        """Drop the rows of `stage` after `step` and all of a later stage; write a missing heading."""
        rows = self._read() if self.rows is None else self.rows
        self.rows = [row for row in rows if is_before(row, stage, step)]
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
        self.rows = [*(self._read() if self.rows is None else self.rows), row]
        self._write()
        with self._going_on(f"TensorBoard's folder {self.tensorboard}"):
            for name, value in row.items():
                if isinstance(value, float) and self.board is not None:
                    self.board.add(f"{row['stage']}/{name}", value, int(row["step"]))

    def passed(self, stage: str, seconds: float) -> None:
        """Write the row of the pass over the photographs that comes before a stage: its epoch 0.

        A resumed run passes again; the row of the pass before is replaced.
        """
        rows = self._read() if self.rows is None else self.rows
        earlier = [row for row in rows if str(row["stage"]) < stage]
        later = [row for row in rows if str(row["stage"]) >= stage and int(row["epoch"]) > 0]
        self.rows = [*earlier, {"stage": stage, "epoch": 0, "step": 0, "seconds": seconds}, *later]
        self._write()

    def _read(self) -> list[Row]:
        """The rows that can be read; a file with other lines is kept under another name."""
        kept = self.csv_file.with_name("metrics.damaged.csv")
        try:
            found = read_rows(self.csv_file)
            if found.damaged_lines == 0:
                return found.rows
            reason = f"{found.damaged_lines} of its lines cannot be read"
        except (OSError, MemoryError) as error:
            found, reason = None, (getattr(error, "strerror", None) or one_line(error))
        with self._going_on(str(kept)):
            self.csv_file.replace(kept)
            reason += f"; it is now {kept.name}"
        rows = [] if found is None else found.rows
        say(f"{self.csv_file} cannot be read whole: {reason}; {len(rows)} rows are kept")
        return rows

    def _write(self) -> None:
        """Write all rows, so that rows lost to a full disk are written once there is room."""
        with self._going_on(str(self.csv_file)):
            write_text(self.csv_file, format_rows(self.rows or []))

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
