"""A digest beside every file that is reloaded, so that a damaged one is refused, not trusted.

`checkpoint.pt.sha256` holds the SHA-256 of `checkpoint.pt`, as `sha256sum` writes it and
`sha256sum --check` reads it. While the file is being replaced, its digest file has a line for
the old content and one for the new: a kill at any moment leaves a file that matches a line.
"""

import hashlib
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from mpfgvc.errors import CheckpointError
from mpfgvc.storage.whole_files import new_file, write_bytes

_LINE = re.compile(rb"\\?([0-9a-f]{64}) [ *][^\n]+\n")
_LARGEST = 1 << 16
"""Bytes that a digest file can have; a larger one is something else."""


def digest_path(path: Path) -> Path:
    """The file that holds the digest of `path`."""
    return path.with_name(path.name + ".sha256")


def write_with_digest(path: Path, content: bytes | Callable[[], Iterable[bytes]]) -> None:
    """Replace a file and its digest. Raises OutputError; a file and a digest that fit stay in any case.

    `content` may be a function that gives the content in pieces; it is called twice.
    """
    pieces = content if callable(content) else lambda: (content,)
    digest = hashlib.sha256()
    for piece in pieces():
        digest.update(piece)
    new = digest_line(digest.hexdigest(), path.name)
    write_bytes(digest_path(path), b"".join(dict.fromkeys([*_lines_so_far(path), new])))
    with new_file(path) as part, part.open("wb") as file:
        file.writelines(pieces())
    write_bytes(digest_path(path), new)


def check_digest(path: Path) -> bool:
    """Whether the file was checked: True if it matches its digest, False if it has none.

    Raises CheckpointError in one line for a file or a digest file that is damaged or cannot be read.
    """
    lines = _read_digests(path)
    while lines is not None and not _matches(path, lines):
        now = _read_digests(path)
        if now == lines:  # else the file was replaced while it was read
            raise CheckpointError(_what_is_damaged(path, lines))
        lines = now
    return lines is not None


def stored_digest(path: Path) -> str:
    """The digest that is stored beside a file; "" if there is none, or one of two. It is not checked here.

    Raises CheckpointError if it cannot be read.
    """
    lines = _read_digests(path) or []
    return lines[0].lstrip(b"\\")[:64].decode() if len(lines) == 1 else ""


def file_digest(path: Path) -> str:
    """The SHA-256 of the content of a file. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_line(digest: str, name: str) -> bytes:
    """The line of `sha256sum` for a file; a backslash in front marks a name that needs escaping."""
    plain = os.fsencode(name)
    escaped = plain.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\r", b"\\r")
    return (b"" if escaped == plain else b"\\") + digest.encode() + b"  " + escaped + b"\n"


def _matches(path: Path, lines: list[bytes]) -> bool:
    """Whether the content fits one of the lines. Raises CheckpointError if it cannot be read."""
    try:
        digest = file_digest(path).encode()
    except OSError as error:
        raise _unreadable(path, error) from None
    return any(line.lstrip(b"\\").startswith(digest) for line in lines)


def _what_is_damaged(path: Path, lines: list[bytes]) -> str:
    beside = digest_path(path)
    way_out = f"restore both from a copy, or delete {beside} to use {path.name} unchecked"
    if not lines:
        return f"{beside} is damaged: it holds no digest; {way_out}"
    return f"{path} is damaged: its content does not match {beside.name}; {way_out}"


def _unreadable(path: Path, error: OSError) -> CheckpointError:
    return CheckpointError(
        f"cannot read {path}: {error.strerror or error}; check that it is a file you may read"
    )


def _read_digests(path: Path) -> list[bytes] | None:
    """As `_read_lines`, for the digest file of `path`. Raises CheckpointError if it cannot be read."""
    try:
        return _read_lines(digest_path(path))
    except OSError as error:
        raise _unreadable(digest_path(path), error) from None


def _lines_so_far(path: Path) -> list[bytes]:
    """The lines that the content there is now may match; of its own where it has no digest file yet."""
    try:
        lines = _read_lines(digest_path(path))
        return [digest_line(file_digest(path), path.name)] if lines is None else lines
    except OSError:
        return []


def _read_lines(path: Path) -> list[bytes] | None:
    """The lines of a digest file, [] for one that is damaged, None if there is none. Raises OSError."""
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST)
    except FileNotFoundError:
        return None
    lines = content.splitlines(keepends=True)
    return lines if all(_LINE.fullmatch(line) for line in lines) else []
