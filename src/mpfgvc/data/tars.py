"""A photograph inside a tar file: `birds-000001.tar!000000042.jpg` names it, wherever a path is taken.

A tar file is its members one after the other, each behind a header of its own, so a photograph is read from
its first byte on, whatever is before it. Who knows that byte (readers/shards.py) hands over a `Packed`; a
path alone is looked up in the headers of its tar file, which are read once in each process.
"""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from mpfgvc.data.remote import open_tar

MARK = ".tar!"
"""What stands between the tar file and the photograph in a path."""
REMEMBERED = 64
"""Tar files whose headers a process remembers: about 0.2 MB for one with 1,000 photographs."""


@dataclass(frozen=True)
class Member:
    """Where a member of a tar file is: its first byte, and how many there are."""

    offset: int
    size: int


@dataclass(frozen=True)
class Packed:
    """A photograph in a tar file, and where it is in there; its text is its path."""

    path: Path
    member: Member

    def __str__(self) -> str:
        return str(self.path)

    def read(self, most: int | None = None, /) -> bytes:
        """Its bytes, or `most` of them. Raises OSError, and ValueError where the tar file ends too early."""
        size = self.member.size if most is None else min(most, self.member.size)
        with open_tar(tar_of(self.path)) as file:
            file.seek(self.member.offset)
            content = file.read(size)
            while 0 < len(content) < size:
                more = file.read(size - len(content))
                if not more:
                    break
                content += more
        if len(content) < size:
            raise ValueError(f"{tar_of(self.path).name} ends in the middle of it; copy the shard again")
        return content


def is_packed(path: str | Path) -> bool:
    """Whether a path names a photograph inside a tar file."""
    return MARK in str(path)


def inside(tar: Path, name: str) -> Path:
    """The path of a member of a tar file."""
    return tar.parent / f"{tar.name}!{name}"


def tar_of(path: Path) -> Path:
    """The tar file in the path of a member."""
    return Path(str(path).partition(MARK)[0] + MARK[:-1])


def name_in(path: Path) -> str:
    """The name of a member inside its tar file."""
    return str(path).partition(MARK)[2]


def locate(path: Path) -> Packed:
    """Where a photograph is in its tar file. Raises FileNotFoundError if it is not, other OSErrors too."""
    member = members(tar_of(path)).get(name_in(path))
    if member is None:
        raise FileNotFoundError(path)
    return Packed(path, member)


def members(tar: Path) -> Mapping[str, Member]:
    """The files in a tar file by name. Raises OSError, and ValueError for what is no whole tar file."""
    with open_tar(tar) as file:
        status = os.fstat(file.fileno())
    return _members(tar, status.st_size, status.st_mtime_ns)


def missing_members(paths: Iterable[Path]) -> list[Path]:
    """Those of some paths into tar files that are not there, one tar file after the other."""
    return [path for path in sorted(paths) if not _is_there(path)]


@contextmanager
def open_bytes(source: str | Path | Packed) -> Iterator[io.BytesIO | io.BufferedReader]:
    """The bytes of a photograph, in a file of its own or in a tar file. Raises OSError or ValueError."""
    if isinstance(source, Packed):
        yield io.BytesIO(source.read())
    elif is_packed(source):
        yield io.BytesIO(locate(Path(source)).read())
    else:
        with Path(source).open("rb") as file:
            yield file


@lru_cache(maxsize=REMEMBERED)
def _members(tar: Path, size: int, changed: int) -> dict[str, Member]:
    """The members of the tar file that has this size and time of change."""
    found = {}
    try:
        with open_tar(tar) as file, tarfile.open(fileobj=file, mode="r:") as archive:
            for each in archive:
                if each.isreg():
                    found[each.name] = Member(each.offset_data, each.size)
            end = archive.offset
    except tarfile.TarError as error:
        raise ValueError(f"{tar.name} is not a readable tar file: {error}; copy the shard again") from None
    if end >= size:
        raise ValueError(f"{tar.name} has no end mark, photographs may be missing; copy the shard again")
    return found


def _is_there(path: Path) -> bool:
    try:
        locate(path)
    except (OSError, ValueError):
        return False
    return True
