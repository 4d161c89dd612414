"""Names for what is not finished yet, and the removal of what a kill left behind.

A file that is being written is called `.<name>.<process>-<number>@<host>.mpfgvc.part`.
The name says who writes it, so another process can tell a leftover from a file that
is still being written. No file of anyone else looks like this.
"""

import hashlib
import itertools
import os
import re
import shutil
import socket
import sys
from collections.abc import Collection
from contextlib import suppress
from errno import EINVAL, EISDIR
from pathlib import Path

LONGEST_NAME = 255
"""Bytes that a file name may have on nearly every file system."""

_PART = re.compile(r"\.(?P<name>.*)\.(?P<process>\d+)-\d+@(?P<host>[\w.-]+)\.mpfgvc\.part", re.DOTALL)
_OLD_PART = re.compile(r"\.(?P<name>.*)\.\d+\.part", re.DOTALL)
_numbers = itertools.count()


def part_path(path: Path) -> Path:
    """A hidden name beside `path` that no other process and no other call uses.

    Raises OSError for a path that no file can have.
    """
    return hidden_path(path, f"{os.getpid()}-{next(_numbers)}@{host_name()}.mpfgvc.part")


def hidden_path(path: Path, ending: str) -> Path:
    """`.<name>.<ending>` beside `path`; a name that would be too long is cut and told apart by a hash.

    Raises OSError for a path that no file can have.
    """
    if not path.name:
        raise OSError(EISDIR, os.strerror(EISDIR), str(path))
    try:
        name = os.fsencode(path.name)
    except UnicodeEncodeError:
        raise OSError(EINVAL, "a name with characters that no file name can have", str(path)) from None
    if b"\0" in name:
        raise OSError(EINVAL, "a name with a NUL character", str(path))
    room = LONGEST_NAME - len(os.fsencode(ending)) - 2
    if len(name) <= room:
        return path.with_name(f".{path.name}.{ending}")
    kept = name[: room - 9].decode(errors="ignore")
    return path.with_name(f".{kept}-{hashlib.sha256(name).hexdigest()[:8]}.{ending}")


def remove_leftovers(folder: Path, *, owned: Collection[str] = ()) -> None:
    """Remove the unfinished files and folders in `folder` whose process has ended on this host.

    `owned` names files that only the caller may write: their leftovers go whoever wrote them,
    on another host or with an older version, too. What cannot be removed stays.
    """
    with suppress(OSError):
        for path in list(folder.iterdir()):
            if _is_leftover(path.name, owned):
                remove(path)


def remove(path: Path) -> None:
    """Remove a file, a link, or a folder with all it holds; what cannot be removed stays."""
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


def host_name() -> str:
    """The name of this machine, safe in a file name."""
    return re.sub(r"[^\w.-]", "_", socket.gethostname(), flags=re.ASCII)[:64] or "unknown"


def is_running(process: int) -> bool:
    """Whether a process of this host is running; where the system cannot say, it is taken to be."""
    if sys.platform == "win32":  # there, os.kill ends the process whatever the signal
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def _is_leftover(name: str, owned: Collection[str]) -> bool:
    part = _PART.fullmatch(name)
    if part is None:
        old = _OLD_PART.fullmatch(name)
        return old is not None and old["name"] in owned
    process = int(part["process"])
    if part["host"] == host_name() and process != os.getpid():
        return not is_running(process)
    return part["name"] in owned
