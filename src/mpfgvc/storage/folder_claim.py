"""One owner at a time for a folder, over processes and machines.

The owner holds a lock on `.lock` in the folder. The system takes the lock back when the
process ends, however it ends, so a killed owner blocks nobody. On Linux it works over NFS
version 4, too. The file says who the owner is, for those who are refused.

Where there are no locks (Windows, some network file systems), the exclusive creation of
`.owner` takes their place. A killed owner then leaves the file behind; the next owner on the
same host takes it over, and on another host the refusal names the file to delete.
"""

import json
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from errno import EACCES, EAGAIN
from pathlib import Path
from typing import Self

from mpfgvc.errors import CheckpointError, OutputError
from mpfgvc.progress import say
from mpfgvc.storage.part_files import host_name, is_running, remove

LOCK, OWNER, TAKEOVER = ".lock", ".owner", ".owner.takeover"
_held: set[int] = set()
"""Descriptors of locks; a forked child closes them, or it would keep the lock of a killed parent."""


@dataclass(frozen=True, kw_only=True)
class Owner:
    """A process that owns a folder: where it runs, since when, and its command."""

    host: str
    process: int
    since: str
    command: str

    @classmethod
    def this_process(cls) -> Self:
        """The owner that this process would be."""
        since = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
        command = " ".join(shlex.join(sys.argv).split())[:200]
        return cls(host=host_name(), process=os.getpid(), since=since, command=command)

    @classmethod
    def read(cls, content: bytes) -> Self | None:
        """The owner that a file names; None if it names none."""
        with suppress(ValueError, TypeError, KeyError):
            values = json.loads(content)
            owner = cls(**{field.name: values[field.name] for field in fields(cls)})
            if type(owner.process) is int:
                return owner
        return None

    def __str__(self) -> str:
        """The owner in words, on one line."""
        words = f"process {self.process} on {self.host} since {self.since} ({self.command})"
        return " ".join(words.split())

    def to_bytes(self) -> bytes:
        """What `read` reads."""
        return json.dumps(asdict(self)).encode() + b"\n"


@contextmanager
def claim_folder(folder: Path) -> Iterator[None]:
    """Own an existing folder within the block.

    Raises CheckpointError, naming the owner, if another process or another block owns it;
    OutputError if the folder cannot be written to.
    """
    with _output_errors(folder):
        descriptor = _lock(folder)
        if descriptor is None:
            _create_owner_file(folder / OWNER)
    try:
        yield
    finally:
        if descriptor is None:
            remove(folder / LOCK)
            remove(folder / OWNER)
        elif descriptor in _held:  # not in a forked child, which has closed it
            remove(folder / LOCK)
            _held.remove(descriptor)
            os.close(descriptor)


def _lock(folder: Path) -> int | None:
    """The descriptor of the locked `.lock`; None where the file system has no locks. Raises OSError."""
    if sys.platform == "win32":
        return None
    while True:
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            if not _lock_descriptor(descriptor, folder):
                os.close(descriptor)
                return None
            if _is_still(folder / LOCK, descriptor):
                _write_owner(descriptor, folder)
                _held.add(descriptor)
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # the owner before removed the file between the two steps


def _lock_descriptor(descriptor: int, folder: Path) -> bool:
    """Lock an open file; False where that is impossible. Raises CheckpointError if another has the lock."""
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (EAGAIN, EACCES):
            raise _refusal(folder, Owner.read(os.pread(descriptor, 10_000, 0))) from None
        say(f"{folder}: no locks here ({error.strerror}); a file {OWNER} says who owns the folder")
        return False
    return True


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _write_owner(descriptor: int, folder: Path) -> None:
    last = Owner.read(os.pread(descriptor, 10_000, 0))
    if last is not None and last.host != host_name():
        say(f"{folder}: its last owner did not end properly: {last}; make sure that it is not running")
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, Owner.this_process().to_bytes(), 0)
    try:
        _refuse_owner_of(folder / OWNER)
    except CheckpointError:
        os.ftruncate(descriptor, 0)
        raise
    remove(folder / OWNER)


def _create_owner_file(file: Path) -> None:
    """The claim without locks. Raises CheckpointError if another process has made it, OSError."""
    if not _create(file):
        _take_over(file)
    try:
        _refuse_owner_of(file.with_name(LOCK))
    except CheckpointError:
        remove(file)
        raise


def _refuse_owner_of(file: Path) -> None:
    """Raise CheckpointError if a file names an owner that may be running and has claimed in the other way.

    A server can refuse locks to some and grant them to others. Each says who it is before it looks
    for the other, so at most one of them goes on.
    """
    owner = _read(file)
    if owner is not None and not _has_ended(owner):
        raise _refusal(file.parent, owner, file)


def _create(file: Path) -> bool:
    """Create a file that names this process; False if it exists already. Raises OSError."""
    try:
        with file.open("xb") as stream:
            stream.write(Owner.this_process().to_bytes())
    except FileExistsError:
        return False
    return True


def _take_over(file: Path) -> None:
    """Replace the file of an owner that has ended on this host. Raises CheckpointError if it has not.

    Only who creates the second file may remove the first, so of two that try one is refused.
    """
    folder, guard = file.parent, file.with_name(TAKEOVER)
    if not _has_ended(_read(file)):
        raise _refusal(folder, _read(file), file)
    if not _create(guard):
        raise _refusal(folder, _read(guard), guard)
    try:
        if not _has_ended(_read(file)):
            raise _refusal(folder, _read(file), file)
        file.unlink()
        if not _create(file):
            raise _refusal(folder, _read(file), file)
    finally:
        guard.unlink()


def _has_ended(owner: Owner | None) -> bool:
    return owner is not None and owner.host == host_name() and not is_running(owner.process)


def _read(file: Path) -> Owner | None:
    try:
        return Owner.read(file.read_bytes()[:10_000])
    except OSError:
        return None


def _refusal(folder: Path, owner: Owner | None, file: Path | None = None) -> CheckpointError:
    hint = "wait until it has ended, or choose another --out"
    if file is not None:
        hint += f"; if it is not running any more, delete {file}"
    return CheckpointError(f"{folder} is in use by {owner or 'another process'}; {hint}")


@contextmanager
def _output_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"cannot write in {folder}: {reason}; choose another --out") from None


def _forget_locks() -> None:
    for descriptor in _held:
        with suppress(OSError):
            os.close(descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_locks)
