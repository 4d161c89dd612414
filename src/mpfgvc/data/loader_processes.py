"""What happens to loader processes from outside, in one line: killed, or out of shared memory.

When a loader process dies, torch's signal handler raises in the main process wherever it stands: inside a
step, a checkpoint or a log. Here the handler only keeps the reason, and the error comes where the next batch
is taken.
"""

from __future__ import annotations

import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from multiprocessing import get_start_method
from types import FrameType
from typing import Any, TypeVar

from torch.utils.data import DataLoader

from mpfgvc.errors import DataError, one_line
from mpfgvc.launcher import GUARD

_Item = TypeVar("_Item")
_TORCH_HANDLER = "torch.utils.data._utils.signal_handling"
_LONGEST = 2000


class _Reasons:
    """Takes the place of torch's handler, and keeps the message of its error instead of raising it."""

    def __init__(self) -> None:
        self.handler: Callable[[int, FrameType | None], Any] | None = None
        self.text = ""

    def __call__(self, number: int, frame: FrameType | None) -> None:
        try:
            if self.handler is not None:
                self.handler(number, frame)
        except RuntimeError as error:
            self.text = one_line(error, _LONGEST)

    def install(self) -> None:
        """Replace the handler that torch installs with its first loader process, if it is there."""
        if sys.platform == "win32" or threading.current_thread() is not threading.main_thread():
            return
        handler = signal.getsignal(signal.SIGCHLD)
        if callable(handler) and getattr(handler, "__module__", "") == _TORCH_HANDLER:
            self.handler = handler
            signal.signal(signal.SIGCHLD, self)


_reasons = _Reasons()


def iterate(loader: DataLoader[_Item]) -> Iterator[_Item]:
    """The batches of a loader. Raises DataError for what happens to its processes from outside."""
    _reasons.text = ""
    try:
        batches = iter(loader)
        _reasons.install()
        for batch in batches:
            yield batch
            if _reasons.text:
                raise RuntimeError(_reasons.text)
    except (RuntimeError, OSError, EOFError) as error:
        text = f"{one_line(error, _LONGEST)} {error.__cause__} {_reasons.text}"
        if loader.num_workers > 0 and isinstance(error, ConnectionError | EOFError):
            text += " DataLoader worker killed by signal"  # it died while a batch was handed over
        line = _what_to_do(text, loader.num_workers)
        if line is None:
            raise
        raise DataError(line) from None


def _what_to_do(text: str, workers: int) -> str | None:
    """What to do about a loader process that failed; None for an error that is not of this kind."""
    if re.search(r"No space left|shared memory|bus error", text):
        rule = "there is too little shared memory (/dev/shm) for the loader processes"
        return f"{rule}; give the container more with --shm-size 2g, or set data.workers 0"
    ended = re.search(r"DataLoader worker .*(exited unexpectedly|killed by signal)", text)
    if ended and get_start_method() != "fork" and "killed by signal" not in text:
        rule = f"one of {workers} loader processes ended, probably because it ran your script again"
        return f"{rule}; put the script's calls under {GUARD} or set data.workers 0"
    if ended:
        rule = f"one of {workers} loader processes was killed, probably because memory ran out"
        return f"{rule}; lower data.workers (0 uses none), and continue a training with --resume"
    return None
