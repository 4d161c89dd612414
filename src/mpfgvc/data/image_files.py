"""Which files and folders count as photographs: one answer for training, evaluation, prediction and checks.

A photograph is a file with one of `IMAGE_SUFFIXES`. Left out are what starts with a dot
(macOS writes `._x.jpg` beside `x.jpg`) and the folders that systems make for thumbnails and
deleted files. Links are followed, to files and to folders; each real folder is visited once,
so a loop ends. Links that lead nowhere are left out, too. Whatever is left out is returned,
so that it can be counted and said. A folder that cannot be listed is an error.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from mpfgvc.data.tars import inside, is_packed, members, missing_members, tar_of
from mpfgvc.errors import DataError

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm"}
    | {".jp2", ".avif"}
)
"""Names of files that are taken for photographs, in lower case."""
SYSTEM_FOLDERS = frozenset(
    {"__macosx", "@eadir", "#recycle", "#snapshot", "$recycle.bin", "recycler", "system volume information"}
)
SYSTEM_FILES = frozenset({"thumbs.db", "desktop.ini", "ehthumbs.db"})
"""Folders and files that operating systems and storage devices make, in lower case."""


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What is in a folder, or below it: each kind in natural order."""

    folders: tuple[Path, ...] = ()
    """Folders that may hold photographs."""
    photographs: tuple[Path, ...] = ()
    others: tuple[Path, ...] = ()
    """Files that are not photographs; those that the system made are not listed."""
    hidden: tuple[Path, ...] = ()
    """Hidden photographs, and folders that are hidden or made by the system."""
    dead_links: tuple[Path, ...] = ()
    """Links that lead nowhere, or to a folder that is listed already or is above this one."""

    def left_out(self) -> list[str]:
        """A line for each kind of file that is not taken: how many, and the first of them."""
        kinds = {
            "files that are not photographs": self.others,
            "hidden or system files and folders": self.hidden,
            "links that lead nowhere or in a circle": self.dead_links,
        }
        return [f"ignored {len(paths)} {what}: {_in_short(paths)}" for what, paths in kinds.items() if paths]


def merged(listings: Iterable[Listing]) -> Listing:
    """Several listings as one, each path once, each kind in natural order."""
    parts = list(listings)
    return Listing(
        **{
            name: _in_order({path for part in parts for path in getattr(part, name)})
            for name in Listing.__dataclass_fields__
        }
    )


def list_folder(folder: Path) -> Listing:
    """What is in a folder, without what is in the folders of it. Raises DataError for an unreadable one."""
    kinds: dict[str, list[Path]] = {name: [] for name in Listing.__dataclass_fields__}
    with readable(folder):
        for path in (Path(entry.path) for entry in os.scandir(folder)):
            if kind := _kind(path):
                kinds[kind].append(path)
    return Listing(**{name: _in_order(paths) for name, paths in kinds.items()})


def photographs_below(folder: Path) -> Listing:
    """The photographs in a folder and in all folders below it. Raises DataError for an unreadable one."""
    with readable(folder):
        seen = {_identity(above) for above in folder.resolve().parents}
    return merged(_walk(folder, seen))


def find_images(patterns: Sequence[str]) -> Listing:
    """The photographs in files, folders (searched to the bottom) and globs, and what was left out there.

    Photographs are in the order of the patterns, each once. A file that is named is taken whatever its
    name. Raises DataError for a pattern that names none.
    """
    listings = [_match(pattern) for pattern in patterns]
    for pattern, listing in zip(patterns, listings, strict=True):
        if not listing.photographs:
            hint = "give a file, a folder or a glob such as 'photos/*.jpg'"
            raise DataError(f"no photographs in {pattern}; {hint}")
    photographs = dict.fromkeys(path for listing in listings for path in listing.photographs)
    return replace(merged(listings), photographs=tuple(photographs))


def missing_files(paths: Sequence[Path]) -> list[Path]:
    """Those of some paths that are not regular files. Raises DataError for an unreadable folder.

    Each folder is listed once, which is fast on network drives.
    """
    files = [path for path in paths if not is_packed(path)]
    names = {folder: _file_names(folder) for folder in {path.parent for path in files}}
    doubtful = [path for path in files if path.name not in names[path.parent]]
    gone = [path for path in doubtful if not path.is_file()]  # some disks change the Unicode form
    return gone + missing_members(path for path in paths if is_packed(path))


def natural_key(name: str) -> tuple[list[tuple[int, str]], str]:
    """A sort key that puts `class 2` before `class 10`, whatever the case of the letters."""
    parts = re.split(r"([0-9]+)", name)
    return [
        _number_key(part) if index % 2 else (0, part.casefold()) for index, part in enumerate(parts)
    ], name


def _number_key(digits: str) -> tuple[int, str]:
    """Sorts as the number does, of any length."""
    significant = digits.lstrip("0")
    return len(significant), significant


def _match(pattern: str) -> Listing:
    path = Path(pattern).expanduser()
    with readable(path.parent):
        is_folder = path.is_dir()
    if is_folder:
        return photographs_below(path)
    if path.suffix.lower() == ".tar" and path.is_file():
        return _in_tar(path)
    if os.path.lexists(path) or (is_packed(path) and tar_of(path).is_file()):
        return Listing(photographs=(path,))  # a FIFO or a dead link, too: reading it says what is wrong
    matches = [Path(name) for name in glob.glob(str(path), recursive=True)]  # noqa: PTH207
    fixed = next((place for place, part in enumerate(path.parts) if glob.has_magic(part)), len(path.parts))
    matches = [each for each in matches if not any(map(is_left_out, each.parts[fixed:]))]
    below = [photographs_below(match) for match in matches if match.is_dir()]
    named = Listing(photographs=tuple(match for match in matches if _kind(match) == "photographs"))
    return merged([*below, named])


def _in_tar(tar: Path) -> Listing:
    """The photographs in a tar file, in its order."""
    try:
        names = members(tar)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"cannot read the shard {tar}: {reason}") from None
    photographs = [name for name in names if Path(name).suffix.lower() in IMAGE_SUFFIXES]
    return Listing(photographs=tuple(inside(tar, name) for name in photographs))


def _walk(folder: Path, seen: set[tuple[int, int]]) -> Iterator[Listing]:
    """The listing of a folder and of each one below; links last, as they may lead to a folder here."""
    seen.add(_identity(folder))
    listing = list_folder(folder)
    dead = list(listing.dead_links)
    for below in sorted(listing.folders, key=lambda path: path.is_symlink()):
        with readable(below):
            is_new = _identity(below) not in seen
        if is_new:
            yield from _walk(below, seen)
        else:
            dead.append(below)
    yield replace(listing, dead_links=tuple(dead))


def _kind(path: Path) -> str | None:
    """The field of a listing that a path belongs to; None for a file that the system made."""
    left_out = is_left_out(path.name)
    if path.is_dir():
        return "hidden" if left_out else "folders"
    if path.suffix.lower() in IMAGE_SUFFIXES:
        if not path.exists():
            return "dead_links"
        return "hidden" if left_out else "photographs"
    if path.is_symlink() and not path.exists() and not left_out:
        return "dead_links"
    return None if left_out else "others"


def is_left_out(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or made by the system."""
    lower = name.casefold()
    return lower.startswith(".") or lower in SYSTEM_FOLDERS or lower in SYSTEM_FILES


def _file_names(folder: Path) -> set[str]:
    with readable(folder), suppress(FileNotFoundError, NotADirectoryError):
        return {entry.name for entry in os.scandir(folder) if _is_regular(entry)}
    return set()


def _is_regular(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a link to itself
        return False


def _in_short(paths: Sequence[Path], most: int = 3) -> str:
    return ", ".join(map(str, paths[:most])) + (", ..." if len(paths) > most else "")


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


@contextmanager
def readable(folder: Path) -> Iterator[None]:
    """Turn the OSError of a folder that cannot be looked into within the block into a DataError."""
    try:
        yield
    except OSError as error:
        raise DataError(f"cannot list the folder {folder}: {error.strerror}; check its permissions") from None


def _in_order(paths: Iterable[Path]) -> tuple[Path, ...]:
    return tuple(sorted(paths, key=lambda path: natural_key(path.as_posix())))
