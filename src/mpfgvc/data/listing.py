"""Which files are photographs: one answer for training, evaluation, prediction and checks.

    photos/  'photos/*.jpg'  a.jpg  a.tar   folders (to the bottom), globs, files, the members of a tar file
    list.parquet                            the column `path`, from the folder of the table

A photograph is a file with one of `IMAGE_SUFFIXES`. Ignored are what starts with a dot (macOS writes
`._x.jpg` beside `x.jpg`) and the folders that systems make for thumbnails and deleted files. Links are
followed; each real folder is visited once, so a loop ends. Whatever is ignored is returned, so that it can
be counted and said. A folder that cannot be listed is an error.
"""

from __future__ import annotations

import glob
import itertools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mpfgvc.data.images import has_more_frames
from mpfgvc.data.names import composed
from mpfgvc.data.samples import in_short
from mpfgvc.data.tars import inside, members, read_member, tar_of
from mpfgvc.errors import DataError, one_line

HEIC_SUFFIXES = (".heic", ".heif", ".hif")
IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm"}
    | {".jp2", ".avif", *HEIC_SUFFIXES}
)
"""Names of files that are taken for photographs, in lower case."""
_PAGED = (".gif", ".png", ".webp", ".tif", ".tiff")
_SYSTEM_NAMES = frozenset(
    {"__macosx", "@eadir", "#recycle", "#snapshot", "$recycle.bin", "recycler", "system volume information"}
    | {"thumbs.db", "desktop.ini", "ehthumbs.db"}
)
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

    def ignored(self) -> list[str]:
        """A line for every kind of file that is not taken, or not wholly: how many, and the first."""
        kinds = {
            "files that are not photographs": self.others,
            "hidden or system files and folders": self.hidden,
            "links that lead nowhere or in a circle": self.dead_links,
        }
        lines = [f"ignored {len(paths)} {what}: {in_short(paths)}" for what, paths in kinds.items() if paths]
        several = [path for path in self.photographs if path.suffix.lower() in _PAGED and has_more_frames(path)]
        if several:
            lines.append(f"took the first of several frames or pages of {len(several)} files: {in_short(several)}")
        heic = [path for path in self.photographs if path.suffix.lower() in HEIC_SUFFIXES]
        if heic and find_spec("pillow_heif") is None:
            what = f"{len(heic)} HEIC photographs need one more package"
            lines.append(f"{what}: pip install pillow-heif ({in_short(heic)})")
        return lines


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
    return Listing(**{kind: _in_order(paths) for kind, paths in _scan(folder).items()})


def photographs_below(folder: Path) -> Listing:
    """The photographs in a folder and in all folders below it. Raises DataError for an unreadable one."""
    with readable(folder):
        seen = {_identity(above) for above in folder.resolve().parents}
    found: dict[str, list[Path]] = {name: [] for name in Listing.__dataclass_fields__}
    waiting, links = [folder], list[Path]()  # links last, as they may lead to a folder here
    while waiting or links:
        below = waiting.pop() if waiting else links.pop(0)
        with readable(below):
            identity = _identity(below)
        if identity in seen:
            found["dead_links"].append(below)
            continue
        seen.add(identity)
        kinds = _scan(below)
        for kind, paths in kinds.items():
            found[kind] += paths
        with readable(below):  # a path may be too long
            for path in _in_order(kinds.get("folders", ())):
                (links if path.is_symlink() else waiting).append(path)
    return Listing(**{kind: _in_order(paths) for kind, paths in found.items()})


def find_images(patterns: Sequence[str], tell: Callable[[str], None]) -> tuple[Path, ...]:
    """The photographs in files, folders (searched to the bottom) and globs; `tell` gets a line for what is ignored.

    Photographs are in the order of the patterns, each once. A file that is named is taken whatever its
    name. Raises DataError for a pattern that names none.
    """
    listings = [_match(pattern) for pattern in patterns]
    for pattern, listing in zip(patterns, listings, strict=True):
        if not listing.photographs:
            hint = "give a file, a folder or a glob such as 'photos/*.jpg'"
            raise DataError(f"no photographs in {pattern}; {hint}")
    for line in merged(listings).ignored():
        tell(line)
    return tuple(dict.fromkeys(path for listing in listings for path in listing.photographs))


def missing_files(paths: Sequence[Path]) -> list[Path]:
    """Those of some paths that are not regular files. Raises DataError for an unreadable folder."""
    gone = []
    for path in paths:
        with readable(path.parent):
            is_there = path.is_file() or _is_packed(path)
        if not is_there:
            gone.append(path)
    return gone


def photo_names(patterns: Sequence[str], tell: Callable[[str], None]) -> Iterator[str]:
    """The names that some patterns stand for, in their order; `tell` as for `find_images`.

    A row of a table is a name, also one that comes twice. A table is read piece by piece, so its length
    costs no memory. Raises DataError for a pattern that names none.
    """
    for is_table, group in itertools.groupby(patterns, key=_is_table):
        if is_table:
            yield from itertools.chain.from_iterable(map(_rows, group))
        else:
            yield from map(str, find_images(list(group), tell))


def check_is_local(what: str, path: str) -> None:
    """Refuse a URL. Raises DataError."""
    if "://" in path and not os.path.lexists(path):
        raise DataError(f"{what} must be on a disk of this machine, got {path}; download it first")


def natural_key(name: str) -> tuple[list[tuple[int, str]], str]:
    """A sort key that puts `class 2` before `class 10`, whatever the case or the Unicode form of the letters."""
    parts = re.split(r"([0-9]+)", composed(name))
    parts[::2] = [part.casefold() for part in parts[::2]]
    numbers = [digits.lstrip("0") for digits in parts[1::2]]  # of any length, so they stay text
    key = [(0, part) for part in parts]
    key[1::2] = [(len(number), number) for number in numbers]
    return key, name


def is_ignored(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or made by the system."""
    return name.startswith(".") or name.casefold() in _SYSTEM_NAMES


@contextmanager
def readable(folder: Path) -> Iterator[None]:
    """Turn the OSError of a folder that cannot be looked into within the block into a DataError."""
    try:
        yield
    except OSError as error:
        raise DataError(f"cannot list the folder {folder}: {error.strerror}; check its permissions") from None


def _match(pattern: str) -> Listing:
    check_is_local("photographs", pattern)
    path = Path(pattern).expanduser()
    with readable(path.parent):
        is_folder = path.is_dir()
    if is_folder:
        return photographs_below(path)
    if path.suffix.lower() == ".tar" and path.is_file():
        return _in_tar(path)
    if os.path.lexists(path) or tar_of(path):
        return Listing(photographs=(path,))  # a FIFO or a dead link, too: reading it says what is wrong
    matches = [Path(name) for name in glob.glob(str(path), recursive=True)]  # noqa: PTH207
    fixed = next((index for index, part in enumerate(path.parts) if glob.has_magic(part)), len(path.parts))
    matches = [match for match in matches if not any(map(is_ignored, match.parts[fixed:]))]
    kinds: dict[str, list[Path]] = {}
    for match in matches:
        kinds.setdefault(_kind(match) or "hidden", []).append(match)
    below = [photographs_below(folder) for folder in kinds.pop("folders", ())]
    return merged([*below, Listing(**{kind: tuple(paths) for kind, paths in kinds.items()})])


def _in_tar(tar: Path) -> Listing:
    """The photographs in a tar file, in its order."""
    try:
        names = members(tar)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"cannot read the shard {tar}: {reason}") from None
    photographs = [name for name in names if Path(name).suffix.lower() in IMAGE_SUFFIXES]
    return Listing(photographs=tuple(inside(tar, name) for name in photographs))


def _scan(folder: Path) -> dict[str, list[Path]]:
    """What is in a folder, by the field of a listing."""
    kinds: dict[str, list[Path]] = {}
    with readable(folder), os.scandir(folder) as entries:
        for entry in entries:
            if kind := _kind(entry):
                kinds.setdefault(kind, []).append(folder / entry.name)
    return kinds


def _kind(entry: os.DirEntry[str] | Path) -> str | None:
    """The field of a listing that a file or folder belongs to; None for a file that the system made."""
    ignored = is_ignored(entry.name)
    with suppress(OSError):  # a link to itself
        if entry.is_dir():
            return "hidden" if ignored else "folders"
    is_image = os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES  # noqa: PTH122
    if entry.is_symlink() and not os.path.exists(entry) and (is_image or not ignored):  # noqa: PTH110
        return "dead_links"
    if is_image:
        return "hidden" if ignored else "photographs"
    return None if ignored else "others"


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _in_order(paths: Iterable[Path]) -> tuple[Path, ...]:
    return tuple(sorted(paths, key=lambda path: natural_key(path.as_posix())))


def _is_packed(path: Path) -> bool:
    try:
        return read_member(path, 0) is not None
    except (OSError, ValueError):
        return False


def _is_table(pattern: str) -> bool:
    path = Path(pattern).expanduser()
    return path.suffix.lower() in (".parquet", ".pq") and path.is_file()


def _rows(table: str) -> Iterator[str]:
    """The paths in the rows of a table. Raises DataError naming the row."""
    base, row = Path(table).expanduser().parent, 0
    for row, name in enumerate(_cells(table), start=1):
        where = f"{table} row {row}"
        if not isinstance(name, str) or not name.strip():
            raise DataError(f"{where} has no path; fill it in or remove the row")
        check_is_local(f"{where}: a photograph", name)
        yield os.path.normpath(base / name)
    if not row:
        raise DataError(f"{table} has no rows; list the photographs, one in a row")


def _cells(table: str) -> Iterator[Any]:
    try:
        import pyarrow.parquet
    except ImportError:
        raise DataError(f"{table} needs pyarrow to be read: pip install 'mpfgvc[parquet]'") from None
    try:
        parquet = pyarrow.parquet.ParquetFile(Path(table).expanduser())
        if "path" not in parquet.schema_arrow.names:
            raise DataError(f"{table} has no column path; name the photographs in one")
        for batch in parquet.iter_batches(4096, columns=["path"]):
            yield from batch[0].to_pylist()
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
        raise DataError(f"cannot read {table}: {one_line(error)}; export it again") from None
