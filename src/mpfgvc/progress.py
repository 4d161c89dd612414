"""What people see while something runs: notes and progress bars, on standard error.

Standard output belongs to results. A line never lands on the line of a bar: `say` prints above
open bars, and `close_bars` ends them before an error is printed. If standard error itself is gone
(a closed pipe, a full disk), the work goes on in silence.
"""

import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from mpfgvc.errors import printable

if TYPE_CHECKING:
    from tqdm import tqdm


class Bar:
    """A progress bar that counts from `done` to `total`."""

    def __init__(self, label: str, *, total: int, done: int = 0):
        from tqdm import tqdm  # only what takes long pays for its import

        self._bar: tqdm[Any] | None = None
        with suppress(OSError):
            self._bar = tqdm(total=total, initial=done, desc=label, unit="img", file=sys.stderr, mininterval=0.5)
        _open.append(self)

    def advance(self, count: int) -> None:
        """Count on."""
        self._try(lambda bar: bar.update(count))

    def show(self, **values: str) -> None:
        """Put values beside the bar."""
        self._try(lambda bar: bar.set_postfix(values, refresh=False))

    def close(self) -> None:
        """End the bar's line; what is printed next is on a line of its own."""
        self._try(lambda bar: bar.close())
        self._bar = None
        if self in _open:
            _open.remove(self)

    def _try(self, action: Callable[["tqdm[Any]"], object]) -> None:
        """Do something with the bar; one that cannot be written to is given up."""
        if self._bar is None:
            return
        try:
            action(self._bar)
        except OSError:
            self._bar.disable = True
            self._bar = None


_open: list[Bar] = []


def say(line: str) -> None:
    """Print one line, above any progress bar; a line break in a file name is escaped."""
    text = f"mpfgvc: {printable(line)}"
    with suppress(OSError):
        if _open:
            from tqdm import tqdm

            tqdm.write(text, file=sys.stderr)
        elif sys.stderr is not None:
            sys.stderr.write(text + "\n")
            sys.stderr.flush()


def close_bars() -> None:
    """End the lines of all open bars."""
    for bar in list(_open):
        bar.close()
