"""The names of many photographs, one after the other: of files, folders and globs, of tables, and at URLs.

    photos/  'photos/*.jpg'  a.jpg          as find_images takes them
    list.parquet  s3://bucket/list.parquet  the column `path`: from the folder of the table, or URLs
    s3://bucket/birds  s3://bucket/*.jpg    what a store has below a prefix, or that fits a glob
    https://host/bird.jpg                   one photograph, as nothing can be listed there

A table is read piece by piece, so its length costs no memory. What is listed is in memory while it is sorted.
"""

from __future__ import annotations

import glob
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from mpfgvc.data.image_files import IMAGE_SUFFIXES, find_images, is_left_out, natural_key
from mpfgvc.data.remote import Remote, is_http, is_url, open_url
from mpfgvc.data.samples import Photograph
from mpfgvc.errors import DataError, one_line

TABLES = (".parquet", ".pq")
COLUMN = "path"
ROWS_AT_ONCE = 4096


@dataclass(frozen=True, kw_only=True)
class RemotePhotograph(Photograph):
    """A photograph at a URL; `path` is the URL as a path, for messages only."""

    url: str

    @property
    def source(self) -> Remote:
        """What its bytes are read from."""
        return Remote(self.url)


def photograph(name: str, base: Path) -> Photograph:
    """The photograph of a name; a path starts from `base`."""
    return RemotePhotograph(path=Path(name), url=name) if is_url(name) else Photograph(path=base / name)


def photo_names(patterns: Sequence[str], note: Callable[[str], None]) -> Iterator[str]:
    """The names that some patterns stand for, in their order. `note` gets a line for what is left out.

    A row of a table is a name, also one that comes twice. Raises DataError for a pattern that names none.
    """
    for kind, group in itertools.groupby(patterns, key=_kind):
        if kind == "files":
            listing = find_images(list(group))
            yield from map(str, listing.photographs)
            for line in listing.left_out():
                note(line)
        else:
            for pattern in group:
                yield from _rows(pattern) if kind == "table" else _at(pattern, note)


def _kind(pattern: str) -> str:
    is_file = is_url(pattern) or Path(pattern).is_file()
    if is_file and PurePosixPath(pattern).suffix.lower() in TABLES:
        return "table"
    return "url" if is_url(pattern) else "files"


def _rows(table: str) -> Iterator[str]:
    """The names in the rows of a table. Raises DataError naming the row."""
    place = table.rpartition("/")[0] if is_url(table) else str(Path(table).parent)
    count = 0
    for count, name in enumerate(_cells(table), start=1):
        if not isinstance(name, str) or not name.strip():
            raise DataError(f"{table} row {count} has no {COLUMN}; fill it in or remove the row")
        yield name if is_url(name) else _joined(place, name)
    if not count:
        raise DataError(f"{table} has no rows; list the photographs, one in a row")


def _joined(place: str, name: str) -> str:
    return f"{place}/{name}" if is_url(place) else os.path.normpath(os.path.join(place, name))  # noqa: PTH118


def _cells(table: str) -> Iterator[Any]:
    try:
        import pyarrow.parquet
    except ImportError:
        raise DataError(f"{table} needs pyarrow to be read: pip install 'mpfgvc[parquet]'") from None
    try:
        with open_url(table) if is_url(table) else Path(table).open("rb") as file:
            parquet = pyarrow.parquet.ParquetFile(
                pyarrow.BufferReader(file.read()) if is_http(table) else file
            )
            if COLUMN not in parquet.schema_arrow.names:
                raise DataError(f"{table} has no column {COLUMN}; name the photographs in one")
            for batch in parquet.iter_batches(ROWS_AT_ONCE, columns=[COLUMN]):
                yield from batch[0].to_pylist()
    except DataError:
        raise
    except Exception as error:  # stores fail in as many ways as they are made
        raise DataError(
            f"cannot read {table}: {one_line(error)}; export it again or check the address"
        ) from None


def _at(url: str, note: Callable[[str], None]) -> Iterator[str]:
    """The photographs at a URL, in natural order. Raises DataError where there are none."""
    if is_http(url):
        yield url
        return
    names, others = _listed(url)
    if not names:
        raise DataError(f"no photographs at {url}; give a photograph, a prefix or a glob of the store")
    if others:
        note(f"ignored {others} files at {url} that are hidden or not photographs")
    yield from names


def _listed(url: str) -> tuple[list[str], int]:
    try:
        from fsspec.core import url_to_fs

        store, path = url_to_fs(url)
        if not glob.has_magic(path) and store.isfile(path):
            return [url], 0
        found = store.glob(path) if glob.has_magic(path) else store.find(path)
        files = [each for each in found if not store.isdir(each)] if glob.has_magic(path) else found
        fixed = len(PurePosixPath(path.partition("*")[0]).parts)
        taken = [each for each in files if _is_photograph(PurePosixPath(each), fixed)]
        names = [str(store.unstrip_protocol(each)) for each in sorted(taken, key=natural_key)]
        return names, len(files) - len(taken)
    except Exception as error:  # as above; a missing package of the store, too
        raise DataError(f"cannot list {url}: {one_line(error)}; check the address and the access") from None


def _is_photograph(path: PurePosixPath, fixed: int) -> bool:
    """Whether a file of a store is taken; the first `fixed` parts of its path were named by the caller."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not any(map(is_left_out, path.parts[fixed:]))
