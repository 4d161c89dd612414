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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from mpfgvc.data.names import look
from mpfgvc.data.readers.index_files import read_bytes, read_text, refuse_missing
from mpfgvc.data.samples import SPLIT_NAMES, LabelledPhoto, PhotoSet, Split
from mpfgvc.data.split import photo_set
from mpfgvc.errors import DataError, one_line

_NEEDED = ("path", "label")
_COLUMNS = (*_NEEDED, "split")


@dataclass(frozen=True, kw_only=True)
class CsvRow:
    """The cells of a row by column; `where` names the file and the line that the row ends on."""

    where: str
    cells: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class _Row:
    """One row as text; `where` names the file and the row."""

    where: str
    path: str
    label: str
    split: str


def read_manifest(path: Path, root: Path, *, test_share: float, seed: int, check_files: bool = True) -> PhotoSet:
    """The photographs that a table names. Raises DataError naming the row that breaks a rule."""
    photos = read_labelled_manifest(path, root, check_files=check_files)
    return photo_set(path.stem, root, photos, test_share=test_share, seed=seed)


def read_labelled_manifest(path: Path, root: Path, *, check_files: bool = True) -> list[LabelledPhoto]:
    """All photographs that a table names, and their splits, if it has some.

    Any splits and any number of classes will do: nothing is trained on these. Raises DataError as
    `read_manifest` does.
    """
    rows = _read_rows(path, root)
    splits: Sequence[Split | None] = _splits(rows) if any(row.split for row in rows) else [None] * len(rows)
    photos = [
        LabelledPhoto(path=root / os.path.normpath(row.path), class_name=row.label, split=split)
        for row, split in zip(rows, splits, strict=True)
    ]
    if check_files:
        refuse_missing(path, [photo.path for photo in photos])
    return photos


def read_csv_rows(path: Path, text: str, *, needed: Sequence[str], known: Sequence[str]) -> Iterator[CsvRow]:
    """The rows of a table, `text` of the file at `path`; blank lines are left out.

    Raises DataError where a `needed` column is missing or a `known` one comes twice, and for a row that has
    more or fewer fields than the header.
    """
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        columns = next(reader, [])
        refuse_columns(path, columns, needed=needed, known=known)
        for fields in reader:
            where = f"{path} line {reader.line_num}"
            if len(fields) > len(columns):
                rule = "has more fields than the header; put quotes around a field with a comma"
                raise DataError(f"{where} {rule}")
            if fields and len(fields) < len(columns):
                rule = f"has {len(fields)} of the {len(columns)} fields of the header; complete it"
                raise DataError(f"{where} {rule}")
            if fields:
                yield CsvRow(where=where, cells=dict(zip(columns, fields, strict=True)))
    except csv.Error as error:
        raise DataError(
            f"{path} line {reader.line_num} is not CSV: {error}; close its quotes or export it again"
        ) from None


def refuse_columns(path: Path, columns: Iterable[str], *, needed: Sequence[str], known: Sequence[str]) -> None:
    """Raise DataError if a `needed` column is missing, or if a `known` one comes twice."""
    held = list(columns)
    missing = [name for name in needed if name not in held]
    if missing:
        raise DataError(
            f"{path} must have the columns {' and '.join(needed)}, {' and '.join(missing)} missing, got {held}"
        )
    twice = [name for name in known if held.count(name) > 1]
    if twice:
        raise DataError(f"{path} must have each column once, got {twice[0]} twice; remove one of them")


def text_of(value: object, where: str) -> str:
    """The text in a cell, empty for a missing one; a whole float is written as a whole number.

    Raises DataError, beginning with `where`, for lists, fractions, bytes that are not UTF-8, and
    text with a line break or a NUL, as an open quote leaves it.
    """
    if value is None:
        return ""
    if isinstance(value, str | bytes):
        return _checked(value, where)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float | Decimal):
        return _whole(value, where)
    raise DataError(f"{where} must be text or a whole number, got {type(value).__name__}; write it as text")


def number_of(text: str) -> int | None:
    """The whole number that a text spells, as `7`, `07` or `7.0`; None for any other text."""
    found = re.fullmatch(r"(-?[0-9]{1,18})(\.0+)?", text)
    return None if found is None else int(found[1])


def _read_rows(path: Path, root: Path) -> list[_Row]:
    rows = _read_parquet(path) if path.suffix.lower() in (".parquet", ".pq") else _read_csv(path)
    if not rows:
        raise DataError(f"{path} has no rows; list the photographs, one in a row")
    _refuse_bad_rows(rows, root)
    _refuse_equal_labels(rows)
    return rows


def _read_csv(path: Path) -> list[_Row]:
    rows = read_csv_rows(path, read_text(path, "data.manifest"), needed=_NEEDED, known=_COLUMNS)
    return [_row(row.where, row.cells) for row in rows]


def _read_parquet(path: Path) -> list[_Row]:
    try:
        import pyarrow.parquet
    except ImportError:
        raise DataError(f"{path} needs pyarrow to be read: pip install 'mpfgvc[parquet]'") from None
    try:
        table = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(read_bytes(path, "data.manifest")))
        columns = table.schema_arrow.names
        refuse_columns(path, columns, needed=_NEEDED, known=_COLUMNS)
        entries = table.read([name for name in _COLUMNS if name in columns]).to_pylist()
    except (OSError, ValueError, NotImplementedError) as error:
        reason = one_line(error)
        raise DataError(f"the manifest {path} is not a readable Parquet file: {reason}; export it again") from None
    return [_row(f"{path} row {number}", entry) for number, entry in enumerate(entries, start=1)]


def _row(where: str, entry: Mapping[str, object]) -> _Row:
    path, label, split = (text_of(entry.get(name), f"{where}: {name}") for name in _COLUMNS)
    return _Row(where=where, path=path if path.strip() else "", label=label.strip(), split=split.strip())


def _refuse_bad_rows(rows: Sequence[_Row], root: Path) -> None:
    first: dict[str, str] = {}
    for row in rows:
        if not row.path or not row.label:
            raise DataError(f"{row.where} has no {'label' if row.path else 'path'}; fill it in or remove the row")
        if row.label.startswith("-") and number_of(row.label) is not None:
            raise DataError(f"{row.where}: a numeric label must be at least 0, got {row.label}; remove the row")
        file = os.path.normpath(root / row.path)
        if file in first:
            raise DataError(f"{row.where} repeats {row.path} of {first[file]}; remove one of the two")
        first[file] = row.where


def _refuse_equal_labels(rows: Sequence[_Row]) -> None:
    """Refuse two labels that mean the same: `1` and `1.0`, or names that look the same."""
    first: dict[object, _Row] = {}
    for row in rows:
        number = number_of(row.label)
        before = first.setdefault(look(row.label) if number is None else number, row)
        if before.label != row.label:
            raise DataError(
                f"{row.where}: label {row.label!a} looks like {before.label!a} of {before.where}; "
                "write both in the same way"
            )


def _splits(rows: Sequence[_Row]) -> list[Split]:
    """The split of each row; `train` for all if the table names none."""
    if not any(row.split for row in rows):
        return ["train"] * len(rows)
    splits: list[Split] = []
    for row in rows:
        split = SPLIT_NAMES.get(row.split.casefold())
        if split is None:
            raise DataError(f"{row.where}: split must be train, val or test, got {row.split!r}")
        splits.append(split)
    return splits


def _checked(value: str | bytes, where: str) -> str:
    try:
        text = value.decode("utf-8") if isinstance(value, bytes) else value
    except UnicodeDecodeError:
        raise DataError(f"{where} must be text in UTF-8, got {value!r:.60}; write it as text") from None
    if any(each in text for each in "\r\n\0"):
        raise DataError(f"{where} must be on one line, got {text!r:.60}; look for a quote that is not closed")
    return text


def _whole(value: float | Decimal, where: str) -> str:
    if math.isnan(value):
        return ""
    if math.isinf(value) or value != int(value):
        raise DataError(f"{where} must be text or a whole number, got {value}; write it as text")
    return str(int(value))
