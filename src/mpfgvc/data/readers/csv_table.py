"""A CSV file with named columns, row by row. Every refusal names the file and the line."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mpfgvc.errors import DataError


@dataclass(frozen=True, kw_only=True)
class CsvRow:
    """The cells of a row by column; `where` names the file and the line that the row ends on."""

    where: str
    cells: dict[str, str]


def read_csv_rows(path: Path, text: str, *, needed: Sequence[str], known: Sequence[str]) -> Iterator[CsvRow]:
    """The rows of a table, `text` of the file at `path`; blank lines are left out.

    Raises DataError where a `needed` column is missing or a `known` one comes twice, and for a row that has
    more or fewer fields than the header.
    """
    lines = _lines(path, text)
    columns = next(lines, (1, []))[1]
    refuse_columns(path, columns, needed=needed, known=known)
    for line, fields in lines:
        if fields:
            yield _row(f"{path} line {line}", columns, fields)


def refuse_columns(
    path: Path, columns: Iterable[str], *, needed: Sequence[str], known: Sequence[str]
) -> None:
    """Raise DataError if a `needed` column is missing, or if a `known` one comes twice."""
    held = list(columns)
    missing = [name for name in needed if name not in held]
    if missing:
        raise DataError(
            f"{path} must have the columns {' and '.join(needed)}, "
            f"{' and '.join(missing)} missing, got {held}"
        )
    twice = [name for name in known if held.count(name) > 1]
    if twice:
        raise DataError(f"{path} must have each column once, got {twice[0]} twice; remove one of them")


def _lines(path: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """The fields of each row, with the line that it ends on."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for fields in reader:
            yield reader.line_num, fields
    except csv.Error as error:
        raise DataError(
            f"{path} line {reader.line_num} is not CSV: {error}; close its quotes or export it again"
        ) from None


def _row(where: str, columns: Sequence[str], fields: Sequence[str]) -> CsvRow:
    if len(fields) > len(columns):
        raise DataError(f"{where} has more fields than the header; put quotes around a field with a comma")
    if len(fields) < len(columns):
        raise DataError(f"{where} has {len(fields)} of the {len(columns)} fields of the header; complete it")
    return CsvRow(where=where, cells=dict(zip(columns, fields, strict=True)))
