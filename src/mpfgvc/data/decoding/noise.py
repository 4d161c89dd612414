"""Keep what decoders say on the side off the terminal: a broken file is reported by name, once.

libtiff, which Pillow loads, writes to standard error itself, and one of Pillow's modules logs.
Both are silent while a photograph is read, and as before afterwards. Pillow's warnings are ignored
from the first photograph on: to restore the filters after each one would make Python forget
which other warnings it has shown, so it would show them again and again.
"""

from __future__ import annotations

import ctypes
import logging
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path

_PILLOW = r"PIL\."
_FILTER = ("ignore", None, Warning, re.compile(_PILLOW), 0)


class _Hush:
    """Silence while at least one thread asks for it.

    libtiff's handler and the logger belong to the process, so the first thread changes them and the last
    one restores them; changes by each of them could be undone in the wrong order.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._changes = ExitStack()

    def enter(self) -> None:
        with self._lock:
            self._users += 1
            if self._users == 1:
                if _FILTER not in warnings.filters:
                    warnings.filterwarnings("ignore", module=_PILLOW)
                self._changes.enter_context(_silent_libtiff())
                self._changes.enter_context(_silent_logger())

    def leave(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                self._changes.close()


_HUSH = _Hush()


@contextmanager
def quiet_decoders() -> Iterator[None]:
    """Without the noise of decoders inside the block, in any number of threads."""
    _HUSH.enter()
    try:
        yield
    finally:
        _HUSH.leave()


@contextmanager
def _silent_logger() -> Iterator[None]:
    logger = logging.getLogger("PIL.TiffImagePlugin")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


@contextmanager
def _silent_libtiff() -> Iterator[None]:
    library = _libtiff()
    if library is None:
        yield
        return
    before = library.TIFFSetErrorHandler(None)
    try:
        yield
    finally:
        library.TIFFSetErrorHandler(before)


@cache
def _libtiff() -> ctypes.CDLL | None:
    """The libtiff that Pillow has loaded into this process; None where that cannot be found out."""
    try:
        lines = Path("/proc/self/maps").read_text(errors="replace").splitlines()
        path = next(line.split(maxsplit=5)[-1] for line in lines if "/libtiff" in line)
        library = ctypes.CDLL(path)
        library.TIFFSetErrorHandler.restype = ctypes.c_void_p
        library.TIFFSetErrorHandler.argtypes = [ctypes.c_void_p]
        return library
    except (OSError, StopIteration, AttributeError):
        return None
