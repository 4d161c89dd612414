"""A photograph inside a tar file: `birds-000001.tar!000000042.jpg` names it, wherever a path is taken.

A tar file is its members one after the other, each behind a header of its own, so a photograph is read from its first
byte on, whatever is before it. The headers of a tar file are read once in each process. Those that `mpfgvc data pack`
writes hold a checksum of the member in the field of the owner's name: a changed bit is found when it is read.
"""

from __future__ import annotations

import os
import re
import tarfile
import zlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

MARK = ".tar!"
"""What stands between the tar file and the photograph in a path."""
REMEMBERED = 256
"""Tar files whose headers a process remembers: about 0.2 MB for one with 1,000 photographs."""


class Member(NamedTuple):
    """Where a member of a tar file is: its first byte, how many there are, and who owns it by its header."""

    offset: int
    size: int
    owner: str = ""


def checksum(content: bytes) -> str:
    """What a shard's header says of a member's bytes."""
    return f"crc32:{zlib.crc32(content):08x}"


def inside(tar: Path, name: str) -> Path:
    """The path of a member of a tar file."""
    return tar.parent / f"{tar.name}!{name}"


def tar_of(path: str | Path) -> Path | None:
    """The tar file that a path leads into; None for a path to anything else, in a folder `a.tar!b`, too."""
    text = str(path)
    for found in re.finditer(re.escape(MARK), text, re.IGNORECASE):
        tar = text[: found.end() - 1]
        if os.path.isfile(tar):  # noqa: PTH113
            return None if os.path.lexists(text) else Path(tar)
    return None


def read_member(path: Path, most: int | None = None) -> bytes | None:
    """The bytes of a photograph in a tar file, or `most` of them; None for a path that leads into none.

    Raises FileNotFoundError if it is not in there, ValueError where it ends too early, and what `members` raises.
    """
    tar = tar_of(path)
    if tar is None:
        return None
    member = members(tar).get(str(path)[len(str(tar)) + 1 :])
    if member is None:
        raise FileNotFoundError(path)
    size = member.size if most is None else min(most, member.size)
    with tar.open("rb") as file:
        file.seek(member.offset)
        content = file.read(size)
    if len(content) < size:
        raise ValueError(f"{tar.name} ends in the middle of it; copy the shard again")
    if size == member.size and member.owner.startswith("crc32:") and member.owner != checksum(content):
        raise ValueError(f"{tar.name} is damaged: it does not match its checksum; copy the shard again")
    return content


def members(tar: Path) -> Mapping[str, Member]:
    """The files in a tar file by name. Raises OSError, and ValueError for what is no whole tar file."""
    status = tar.stat()
    return _members(tar, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=REMEMBERED)
def _members(tar: Path, size: int, changed: int) -> dict[str, Member]:
    """The members of the tar file that has this size and time of change."""
    found = {}
    try:
        with tarfile.open(tar, "r:") as archive:
            for entry in archive:
                if entry.size < 0 or entry.name in found:
                    what = "a member of negative size" if entry.size < 0 else f"two members of the name {entry.name}"
                    raise tarfile.ReadError(what)
                if entry.isreg():
                    found[entry.name] = Member(entry.offset_data, entry.size, entry.uname)
            end = archive.offset
    except tarfile.TarError as error:
        raise ValueError(f"{tar.name} is not a readable tar file: {error}; copy the shard again") from None
    if end >= size:
        raise ValueError(f"{tar.name} has no end mark, photographs may be missing; copy the shard again")
    return found
