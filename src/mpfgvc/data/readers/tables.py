"""A dataset as a table: a CSV or Parquet file with the columns path, label and, if wished, split.

Paths start from data.root, may be absolute and may hold `..`. Labels are class names or
whole numbers from 0, and classes are in natural order (2 before 10). Splits are train, val
(or valid, validation, dev, eval) and test; a table without them is split as class folders are.
Every refusal names the row.
"""

from __future__ import annotations

import csv
import io
import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path

from mpfgvc.data.names import look
from mpfgvc.data.readers.index_files import read_bytes, read_text, refuse_missing
from mpfgvc.data.samples import SPLIT_NAMES, LabelledPhoto, PhotoSet
from mpfgvc.data.split import photo_set
from mpfgvc.errors import DataError, one_line

_NEEDED = ("path", "label")
_COLUMNS = (*_NEEDED, "split")


def read_manifest(path: Path, root: Path, *, test_share: float, seed: int, check_files: bool = True) -> PhotoSet:
    """The photographs that a table names. Raises DataError naming the row that breaks a rule."""
    photos = read_labelled_manifest(path, root, check_files=check_files)
    return photo_set(path.stem, root, photos, test_share=test_share, seed=seed)


def read_labelled_manifest(path: Path, root: Path, *, check_files: bool = True) -> list[LabelledPhoto]:
    """All photographs that a table names, and their splits, if it has some.

    Any splits and any number of classes will do: nothing is trained on these. Raises DataError as
    `read_manifest` does.
    """
    rows = list(_rows(path))
    has_splits = any(split for _, _, _, split in rows)
    photos: list[LabelledPhoto] = []
    files: dict[str, str] = {}
    labels: dict[object, tuple[str, str]] = {}
    for where, name, label, split in rows:
        if not name or not label:
            raise DataError(f"{where} has no {'label' if name else 'path'}; fill it in or remove the row")
        number = _number_of(label)
        if number is not None and label.startswith("-"):
            raise DataError(f"{where}: a numeric label must be at least 0, got {label}; remove the row")
        file = os.path.normpath(root / name)
        if file in files:
            raise DataError(f"{where} repeats {name} of {files[file]}; remove one of the two")
        files[file] = where
        before, there = labels.setdefault(look(label) if number is None else number, (label, where))
        if before != label:
            rule = f"label {label!a} looks like {before!a} of {there}"
            raise DataError(f"{where}: {rule}; write both in the same way")
        if has_splits and split.casefold() not in SPLIT_NAMES:
            raise DataError(f"{where}: split must be train, val or test, got {split!r}")
        photos.append(LabelledPhoto(root / os.path.normpath(name), label, SPLIT_NAMES.get(split.casefold())))
    if not photos:
        raise DataError(f"{path} has no rows; list the photographs, one in a row")
    if check_files:
        refuse_missing(path, [photo.path for photo in photos])
    return photos


def read_csv_rows(path: Path, setting: str, needed: Sequence[str] = ()) -> Iterator[tuple[str, dict[str, str]]]:
    """The rows of a table that a setting names: file and line, and the cells by column. Blank lines are left out.

    Raises DataError where a `needed` column is missing or a column comes twice, and for a row that has
    more or fewer fields than the header.
    """
    reader = csv.reader(io.StringIO(read_text(path, setting), newline=""), strict=True)
    try:
        columns = next(reader, [])
        _refuse_columns(path, columns, needed)
        for fields in reader:
            where = f"{path} line {reader.line_num}"
            if len(fields) > len(columns):
                raise DataError(f"{where} has more fields than the header; put quotes around a field with a comma")
            if fields and len(fields) < len(columns):
                raise DataError(f"{where} has {len(fields)} of the {len(columns)} fields of the header; complete it")
            if fields:
                yield where, dict(zip(columns, fields, strict=True))
    except csv.Error as error:
        where = f"{path} line {reader.line_num}"
        raise DataError(f"{where} is not CSV: {error}; close its quotes or export it again") from None


def text_of(value: object, where: str) -> str:
    """The text in a cell, empty for a missing one; a whole float is written as a whole number.

    Raises DataError, beginning with `where`, for lists, fractions, bytes that are not UTF-8, and
    text with a line break or a NUL, as an open quote leaves it.
    """
    try:
        text = value.decode() if isinstance(value, bytes) else value
    except UnicodeDecodeError:
        raise DataError(f"{where} must be text in UTF-8, got {value!r:.60}; write it as text") from None
    if text is None or (isinstance(text, float | Decimal) and math.isnan(text)):
        return ""
    if isinstance(text, float | Decimal) and math.isfinite(text) and text == int(text):
        return str(int(text))
    if not isinstance(text, str | int):
        raise DataError(f"{where} must be text or a whole number, got {text!r:.60}; write it as text")
    if isinstance(text, str) and any(mark in text for mark in "\r\n\0"):
        raise DataError(f"{where} must be on one line, got {text!r:.60}; look for a quote that is not closed")
    return str(text)


def _rows(path: Path) -> Iterator[tuple[str, str, str, str]]:
    """File and row, path, label and split."""
    is_parquet = path.suffix.lower() in (".parquet", ".pq")
    for where, cells in _read_parquet(path) if is_parquet else read_csv_rows(path, "data.manifest", _NEEDED):
        name, label, split = (text_of(cells.get(column), f"{where}: {column}") for column in _COLUMNS)
        yield where, name if name.strip() else "", label.strip(), split.strip()


def _read_parquet(path: Path) -> Iterator[tuple[str, dict[str, object]]]:
    try:
        import pyarrow.parquet
    except ImportError:
        raise DataError(f"{path} needs pyarrow to be read: pip install 'mpfgvc[parquet]'") from None
    try:
        table = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(read_bytes(path, "data.manifest")))
        columns = table.schema_arrow.names
        _refuse_columns(path, columns, _NEEDED)
        entries = table.read([name for name in _COLUMNS if name in columns]).to_pylist()
    except (OSError, ValueError, NotImplementedError) as error:
        reason = one_line(error)
        raise DataError(f"the manifest {path} is not a readable Parquet file: {reason}; export it again") from None
    yield from ((f"{path} row {number}", entry) for number, entry in enumerate(entries, start=1))


def _refuse_columns(path: Path, columns: Iterable[str], needed: Sequence[str]) -> None:
    """Raise DataError if a `needed` column is missing, or if a column with a name comes twice."""
    held = list(columns)
    missing = " and ".join(name for name in needed if name not in held)
    if missing:
        raise DataError(f"{path} must have the columns {' and '.join(needed)}, {missing} missing, got {held}")
    twice = [name for name in held if name and held.count(name) > 1]
    if twice:
        raise DataError(f"{path} must have each column once, got {twice[0]} twice; remove one of them")


def _number_of(text: str) -> int | None:
    """The whole number that a text spells, as `7`, `07` or `7.0`; None for any other text."""
    found = re.fullmatch(r"(-?[0-9]{1,18})(\.0+)?", text)
    return None if found is None else int(found[1])
