"""Write files so that a kill, a full disk or a missing permission never leaves half of one.

The content goes to a temporary file beside the target, reaches the disk, and
then takes the target's name in one step. What was there before stays until then.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mpfgvc.errors import OutputError


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a file by `content` in one step. Raises OutputError naming the path and the reason."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise _output_error(path, error) from None


def write_text(path: Path, content: str) -> None:
    """Replace a text file by `content` in one step. Raises OutputError."""
    write_bytes(path, content.encode())


def append_text(path: Path, content: str) -> None:
    """Add to the end of a text file. Raises OutputError."""
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(content)
    except OSError as error:
        raise _output_error(path, error) from None


def make_folder(path: Path) -> Path:
    """Make a folder that can be written to. Raises OutputError if it cannot."""
    probe = path / f".{os.getpid()}.part"
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise _output_error(path, error) from None
    return path


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A temporary folder that takes the name `path`, replacing what was there, if the block succeeds."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    shutil.rmtree(part, ignore_errors=True)
    make_folder(part)
    try:
        yield part
        if path.exists():
            shutil.rmtree(path)
        part.rename(path)
    except OSError as error:
        raise _output_error(path, error) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _output_error(path: Path, error: OSError) -> OutputError:
    reason = error.strerror or str(error)
    return OutputError(f"cannot write {path}: {reason}; make room or choose another --out, nothing was lost")
