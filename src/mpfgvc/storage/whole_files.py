"""Write files and folders so that a kill, a full disk or a power cut never leaves half of one.

New content goes to a hidden name beside the target (part_files.py), reaches the disk, and
then takes the target's name in one step. So at every moment

- a file holds the whole old or the whole new content;
- a folder of `new_folder` is the whole old or the whole new one. Linux swaps the two in one
  step. Elsewhere, and on network file systems, the old one is renamed first: a kill at that
  moment leaves it under a hidden name, where `whole_folder` finds it for a reader and
  `restore_folder` puts it back for the owner.

Files written by others into a `new_folder` may not have reached the disk at a power cut.
Every failure is an OutputError: one line with the path and the reason.
"""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from errno import ENOTDIR
from pathlib import Path

from mpfgvc.errors import OutputError
from mpfgvc.storage.part_files import hidden_path, part_path, remove, remove_leftovers


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a file by `content` in one step. Raises OutputError naming the path and the reason."""
    with _output_errors(path), _part_of(path) as part:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        _sync_folder(path.parent)


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """A hidden name that takes the name `path`, replacing what was there, if the block succeeds.

    For a file that is written piece by piece. Raises OutputError for what the system refuses, within the
    block, too.
    """
    with _output_errors(path), _part_of(path) as part:
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(path)
        _sync_folder(path.parent)


def write_text(path: Path, content: str) -> None:
    """Replace a text file by `content` in one step; names of files keep their bytes. Raises OutputError."""
    write_bytes(path, content.encode(errors="surrogateescape"))


def make_folder(path: Path) -> Path:
    """Make a folder that can be written to. Raises OutputError if it cannot."""
    with _output_errors(path):
        if path.exists() and not path.is_dir():
            raise NotADirectoryError(ENOTDIR, os.strerror(ENOTDIR))
        path.mkdir(parents=True, exist_ok=True)
        with _part_of(path / "probe") as probe:
            probe.touch()
    return path


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A temporary folder that takes the name `path`, replacing what was there, if the block succeeds.

    Raises OutputError for whatever the system refuses, within the block, too.
    """
    with _output_errors(path), _part_of(path) as part:
        part.mkdir(parents=True)
        remove_leftovers(path.parent)
        restore_folder(path)
        if os.path.lexists(path) and not path.is_dir():
            raise NotADirectoryError(ENOTDIR, os.strerror(ENOTDIR))
        yield part
        _sync_folder(part)
        _put_in_place(part, path)


def whole_folder(path: Path) -> Path:
    """Where to read the folder `path`: under its hidden name if a kill left it there."""
    with suppress(OSError):
        if not os.path.lexists(path) and (aside := _aside(path)).is_dir():
            return aside
    return path


def restore_folder(path: Path) -> None:
    """Give a folder its name back if a kill took it between two renames. Raises OutputError."""
    with _output_errors(path), _part_of(path) as rest:
        aside = _aside(path)
        if aside.is_dir() and not os.path.lexists(path):
            aside.rename(path)
            _sync_folder(path.parent)
        elif aside.is_dir():
            aside.rename(rest)  # a folder that is half removed must not have a name that is restored


def _put_in_place(part: Path, path: Path) -> None:
    """Rename `part` to `path`; what was at `path` is then called `part`, for `_part_of` to remove."""
    if not os.path.lexists(path):
        part.rename(path)
    elif not _swap(part, path):
        aside = _aside(path)
        path.rename(aside)
        try:
            part.rename(path)
        except BaseException:
            with suppress(OSError):
                aside.rename(path)
            raise
        _sync_folder(path.parent)
        aside.rename(part)
    _sync_folder(path.parent)


def _swap(first: Path, second: Path) -> bool:
    """Let two names change places in one step; False where the system or the file system cannot."""
    if sys.platform != "linux":
        return False
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    current_folder, exchange = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of linux/fs.h
    if rename is None:
        return False
    paths = (current_folder, os.fsencode(first), current_folder, os.fsencode(second))
    return bool(rename(*paths, exchange) == 0)


def _aside(path: Path) -> Path:
    return hidden_path(path, "mpfgvc.old")


@contextmanager
def _part_of(path: Path) -> Iterator[Path]:
    """A hidden name beside `path`; whatever still has it after the block is removed."""
    part = part_path(path)
    try:
        yield part
    finally:
        remove(part)


def _sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut, where the system can (Windows cannot)."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def _output_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        hint = "make room or choose another --out; what was there is unchanged"
        raise OutputError(f"cannot write {path}: {reason}; {hint}") from None
