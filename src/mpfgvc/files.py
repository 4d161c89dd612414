"""Write files and folders whole, know a damaged one, and own a folder.

New content goes to a hidden name beside the target (`.<name>.<process>-<number>@<host>.part`), reaches the
disk, and then takes the target's name in one step. So a kill, a full disk or a power cut never leaves half a
file. A folder takes two renames: the old one is put aside first, and a kill between the two leaves it there,
where `whole_folder` finds it for a reader and `restore_folder` puts it back for the owner.

`digests.json` holds the SHA-256 of the files of its folder that are read again: a damaged one is refused.
While a file is being replaced, the digests of the old and the new content are both good. A folder has one
writer at a time: `claim_folder` sees to that. Commands that add a file to a finished run do not claim it, and
change the digests one after the other.
"""

import hashlib
import itertools
import json
import os
import re
import shlex
import shutil
import socket
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from errno import ENOLCK, ENOTDIR, EOPNOTSUPP
from pathlib import Path
from typing import Any, NamedTuple

from mpfgvc.errors import CheckpointError, ConfigError, OutputError, one_line

DIGESTS = "digests.json"
LOCK, OWNER = ".lock", ".owner"
"""What marks a folder that a process owns."""
_PART = re.compile(r"\..*\.(?P<process>\d+)-\d+@(?P<host>[\w.-]+)\.part", re.DOTALL)
_numbers = itertools.count()


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a file by `content` in one step. Raises OutputError naming the path and the reason."""
    with new_file(path) as part:
        part.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Replace a text file by `content` in one step; names of files keep their bytes. Raises OutputError."""
    write_bytes(path, content.encode(errors="surrogateescape"))


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """A hidden name that takes the name `path`, replacing what was there, if the block succeeds.

    Raises OutputError for what the system refuses, within the block, too.
    """
    with output_errors(path), _part_of(path) as part:
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(path)
        _sync_folder(path.parent)


def make_folder(path: Path) -> Path:
    """Make a folder that can be written to. Raises OutputError if it cannot; no new folder is left then."""
    with output_errors(path), _no_empty_folders(path):
        if path.exists() and not path.is_dir():
            raise NotADirectoryError(ENOTDIR, os.strerror(ENOTDIR))
        path.mkdir(parents=True, exist_ok=True)
        with _part_of(path / "probe") as probe:
            probe.write_bytes(b"probe")
    return path


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A temporary folder that takes the name `path`, replacing what was there, if the block succeeds.

    Raises OutputError for whatever the system refuses, within the block, too.
    """
    with output_errors(path), _no_empty_folders(path), _part_of(path) as part:
        part.mkdir(parents=True)
        restore_folder(path)
        if os.path.lexists(path) and not path.is_dir():
            raise NotADirectoryError(ENOTDIR, os.strerror(ENOTDIR))
        yield part
        _sync_folder(part)
        if not os.path.lexists(path):
            part.rename(path)
        else:
            aside = _aside(path)
            path.rename(aside)
            try:
                part.rename(path)
            except OSError:
                aside.rename(path)
                raise
            _sync_folder(path.parent)
            aside.rename(part)  # for `_part_of` to remove
        _sync_folder(path.parent)


def whole_folder(path: Path) -> Path:
    """Where to read the folder `path`: aside, if a kill left it there."""
    with suppress(OSError):
        if not os.path.lexists(path) and (aside := _aside(path)).is_dir():
            return aside
    return path


def restore_folder(path: Path) -> None:
    """Give a folder its name back if a kill left it aside. Raises OutputError."""
    with output_errors(path), _part_of(path) as rest:
        aside = _aside(path)
        if aside.is_dir() and not os.path.lexists(path):
            aside.rename(path)
            _sync_folder(path.parent)
        elif aside.is_dir():
            aside.rename(rest)  # a folder that is half removed must not have a name that is restored


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


def write_with_digest(path: Path, content: bytes) -> None:
    """Replace a file and its digest; other processes may do so in the same folder.

    Raises OutputError, or CheckpointError for damaged digests.
    """
    new = hashlib.sha256(content).hexdigest()
    file = path.parent / DIGESTS
    with _locked(path.parent / f".{DIGESTS}.lock", seconds=60):
        digests = _read_digests(path.parent)
        before = digests.get(path.name, [])
        if len(before) != 1 and path.is_file() and ((now := _digest_of(path)) in before or not before):
            before = [now]  # of two, one may be of a file that was never written
        write_bytes(file, digests_document({**digests, path.name: [new, *before]}))
        write_bytes(path, content)
        write_bytes(file, digests_document({**digests, path.name: [new]}))


def check_digest(path: Path) -> bool:
    """Whether the file was checked: True if it matches its digest, False if the folder has none for it.

    Raises CheckpointError in one line for a file or digests that are damaged or cannot be read.
    """
    digests = _read_digests(path.parent).get(path.name, [])
    while digests and _digest_of(path) not in digests:
        now = _read_digests(path.parent).get(path.name, [])
        if now == digests:  # else the file was replaced while it was read
            rule = f"is damaged: its content does not match {DIGESTS} beside it"
            hint = f"restore it from a copy, or remove its lines from {DIGESTS} to use it unchecked"
            raise CheckpointError(f"{path} {rule}; {hint}")
        digests = now
    return bool(digests)


def stored_digest(path: Path) -> str:
    """The digest that is stored for a file; "" if there is none, or one of two. It is not checked here.

    Raises CheckpointError if it cannot be read.
    """
    digests = _read_digests(path.parent).get(path.name, [])
    return digests[0] if len(digests) == 1 else ""


def digests_document(digests: Mapping[str, list[str]]) -> bytes:
    """The content of `digests.json`: the digest of each file; a list of two for one that is being replaced."""
    plain = {name: of_file[0] if len(of_file) == 1 else of_file for name, of_file in digests.items()}
    return json.dumps(plain, indent=2).encode() + b"\n"


def file_digest(path: Path) -> str:
    """The SHA-256 of the content of a file. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def claim_folder(folder: Path) -> Iterator[None]:
    """Own an existing folder within the block; the claim ends with the process, however it ends.

    What killed processes left unfinished in it is removed.

    Raises CheckpointError, naming the owner, if another process or another block owns it;
    OutputError if the folder cannot be written to.
    """
    # Not 0 seconds: an owner that ends at this moment removes the lock that was opened here.
    with _locked(folder / LOCK, seconds=1):
        try:
            write_text(folder / OWNER, _this_process())
            _remove_unfinished(folder)
            yield
        finally:
            remove(folder / OWNER)


def pyarrow_for(what: str) -> Any:
    """The module pyarrow, to keep `what` (a plural) with it. Raises ConfigError where it is missing."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        hint = "which needs pyarrow: pip install 'mpfgvc[parquet]'"
        raise ConfigError(f"{what} are kept in Parquet, {hint}") from None
    return pyarrow


class StoredTensor(NamedTuple):
    """The shape of a tensor in a file, and its type by the format's own name, such as F32."""

    shape: tuple[int, ...]
    dtype: str


def read_header(path: str | Path) -> dict[str, StoredTensor]:
    """The tensors of a safetensors file by name, from its header only. Raises OSError or SafetensorError."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        return {name: StoredTensor(tuple(part.get_shape()), part.get_dtype()) for name, part in slices.items()}


@contextmanager
def output_errors(path: Path) -> Iterator[None]:
    """Turn what the system refuses within the block into an OutputError about `path`."""
    try:
        with suppress(OSError):
            path.lstat()
    except ValueError as error:  # a NUL byte, or half of a surrogate pair
        rule = "it is no path that a file can have"
        raise OutputError(f"cannot write {str(path)!a}: {rule} ({error}); choose another --out") from None
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        hint = "make room or choose another --out; what was there is unchanged"
        raise OutputError(f"cannot write {path}: {reason}; {hint}") from None


@contextmanager
def _locked(file: Path, *, seconds: float) -> Iterator[None]:
    """Hold a lock within the block, which the system gives back if this process is killed.

    Raises CheckpointError if another holds it for so long, OutputError where there are no locks.
    """
    from filelock import FileLock, Timeout

    lock, folder = FileLock(file, timeout=seconds, thread_local=False), file.parent
    with output_errors(folder), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # filelock's own way where the system has no flock
        try:
            lock.acquire()
        except Timeout:
            hint = "wait until it has ended, or choose another --out"
            with suppress(OSError):
                if file.stat().st_size:  # not the system's lock, so it outlives a killed owner
                    hint = f"{hint}; if it was killed on another machine, remove {file}"
            raise CheckpointError(f"{folder} is in use by {_owner(folder)}; {hint}") from None
        except OSError as error:
            if error.errno not in (ENOLCK, EOPNOTSUPP):
                raise
            remove(file)
            hint = "choose another --out, on a disk of this machine"
            raise OutputError(f"{folder} is on a file system without locks; {hint}") from None
    try:
        yield
    finally:
        if lock.is_locked:  # not in a forked child
            remove(file)
            lock.release()


def _read_digests(folder: Path) -> dict[str, list[str]]:
    file = folder / DIGESTS
    try:
        stored = json.loads(file.read_bytes())
        digests = {name: [value] if isinstance(value, str) else list(value) for name, value in stored.items()}
        if not all(re.fullmatch("[0-9a-f]{64}", digest) for digest in itertools.chain(*digests.values())):
            raise ValueError("it must hold SHA-256 digests by the names of files")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        hint = "restore it from a copy, or delete it to use the files of its folder unchecked"
        raise CheckpointError(f"{file} is damaged or unreadable: {one_line(error)}; {hint}") from None
    return digests


def _digest_of(path: Path) -> str:
    try:
        return file_digest(path)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}; restore it from a copy") from None


def _owner(folder: Path) -> str:
    """The owner in words; it may not have said yet who it is."""
    try:
        return " ".join((folder / OWNER).read_text(errors="replace").split())[:500] or "another process"
    except OSError:
        return "another process"


def _this_process() -> str:
    """This process in words: where it runs, since when, and its command."""
    since = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
    command = " ".join(shlex.join(sys.argv).split())[:200]
    return f"process {os.getpid()} on {host_name()} since {since} ({command})\n"


def _remove_unfinished(folder: Path, start: str = "", end: str = "") -> None:
    """Remove what processes that have ended left under hidden names with this start and end."""
    with suppress(OSError):
        for path in list(folder.iterdir()):
            part = _PART.fullmatch(path.name) if path.name.startswith(start) and path.name.endswith(end) else None
            if part and not _is_running(int(part["process"]), part["host"]):
                remove(path)


def _is_running(process: int, host: str) -> bool:
    """Whether a process may still write: another one of this host that has not ended, or this one.

    On another host, and on Windows, that cannot be seen; the owner of a folder takes it for ended.
    """
    if (process, host) == (os.getpid(), host_name()):
        return True
    if host != host_name() or sys.platform == "win32":  # there, os.kill ends the process whatever the signal
        return False
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def _aside(path: Path) -> Path:
    name = path.name.encode(errors="surrogatepass")
    short = path.name if len(name) < 240 else hashlib.sha256(name).hexdigest()  # a name has 255 bytes at most
    return path.with_name(f".{short}.mpfgvc.old")


@contextmanager
def _part_of(path: Path) -> Iterator[Path]:
    """A hidden name beside `path` that nobody else uses; what still has it after the block is removed."""
    if not path.name:
        raise IsADirectoryError(ENOTDIR, "it is no file or folder that can be replaced", str(path))
    start = f".{path.name[:20]}."
    part = path.with_name(f"{start}{os.getpid()}-{next(_numbers)}@{host_name()}.part")
    if sys.platform != "win32":  # there one cannot see whether a process runs
        _remove_unfinished(path.parent, start, f"@{host_name()}.part")
    try:
        yield part
    finally:
        remove(part)


@contextmanager
def _no_empty_folders(path: Path) -> Iterator[None]:
    """Remove, after a block that fails, the folders down to `path` that it made, as far as they are empty."""
    missing = [folder for folder in (path, *path.parents) if not os.path.lexists(folder)]
    try:
        yield
    except BaseException:
        for folder in missing:
            with suppress(OSError):
                folder.rmdir()
        raise


def _sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut, where the system can (Windows cannot)."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
