"""A dataset as a table: a CSV or Parquet file with the columns path, label and, if wished, split.

Paths start from data.root. Labels are class names or whole numbers from 0, and
classes are in natural order (2 before 10). Splits are train, val (or valid,
validation) and test; a table without them is split as class folders are.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mpfgvc.data.readers.index_files import refuse_missing
from mpfgvc.data.samples import SPLIT_NAMES, PhotoSet, Sample, Split, natural_key
from mpfgvc.data.split import with_test
from mpfgvc.errors import DataError, one_line


@dataclass(frozen=True, kw_only=True)
class _Row:
    """One row as text; `where` names the file and the row."""

    where: str
    path: str
    label: str
    split: str


def read_manifest(
    path: Path, root: Path, *, test_share: float, seed: int, check_files: bool = True
) -> PhotoSet:
    """The photographs that a table names. Raises DataError naming the row that breaks a rule."""
    rows = _read_parquet(path) if path.suffix.lower() in (".parquet", ".pq") else _read_csv(path)
    if not rows:
        raise DataError(f"{path} has no rows; list at least two classes of photographs")
    _refuse_bad_rows(rows)
    names = sorted({row.label for row in rows}, key=natural_key)
    labels = {name: label for label, name in enumerate(names)}
    splits = _splits(rows)
    samples = tuple(
        Sample(path=root / os.path.normpath(row.path), label=labels[row.label], split=split)
        for row, split in zip(rows, splits, strict=True)
    )
    if check_files:
        refuse_missing(path, [sample.path for sample in samples])
    divided, notes = with_test(samples, names, test_share, seed)
    return PhotoSet(name=path.stem, classes=tuple(names), samples=divided, notes=notes)


def _read_csv(path: Path) -> list[_Row]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            _refuse_columns(path, reader.fieldnames or ())
            return [_row(f"{path} line {reader.line_num}", entry) for entry in reader]
    except FileNotFoundError:
        raise DataError(f"the manifest {path} does not exist; check data.manifest") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"the manifest {path} is no readable CSV file in UTF-8: {error}; export it again"
        ) from None


def _read_parquet(path: Path) -> list[_Row]:
    try:
        import pyarrow.parquet
    except ImportError:
        raise DataError(f"{path} needs pyarrow to be read: pip install 'mpfgvc[parquet]'") from None
    if not path.exists():
        raise DataError(f"the manifest {path} does not exist; check data.manifest")
    try:
        table = pyarrow.parquet.read_table(path)
    except (OSError, ValueError) as error:
        reason = one_line(error)
        raise DataError(
            f"the manifest {path} is no readable Parquet file: {reason}; export it again"
        ) from None
    _refuse_columns(path, table.column_names)
    entries = enumerate(table.to_pylist(), start=1)
    return [_row(f"{path} row {number}", entry) for number, entry in entries]


def _refuse_columns(path: Path, columns: Iterable[str]) -> None:
    held = list(columns)
    missing = [name for name in ("path", "label") if name not in held]
    if missing:
        raise DataError(
            f"{path} must have the columns path and label, {' and '.join(missing)} missing, got {held}"
        )


def _row(where: str, entry: dict[str, object]) -> _Row:
    if None in entry:
        raise DataError(f"{where} has more fields than the header; put quotes around a field with a comma")
    values = {key: str(value).strip() for key, value in entry.items() if value is not None}
    return _Row(
        where=where, path=values.get("path", ""), label=values.get("label", ""), split=values.get("split", "")
    )


def _refuse_bad_rows(rows: Sequence[_Row]) -> None:
    first: dict[str, str] = {}
    for row in rows:
        if not row.path or not row.label:
            raise DataError(
                f"{row.where} has no {'label' if row.path else 'path'}; fill it in or remove the row"
            )
        if row.label.startswith("-") and row.label[1:].isdigit():
            raise DataError(
                f"{row.where}: a numeric label must be at least 0, got {row.label}; remove the row"
            )
        file = os.path.normpath(row.path)
        if file in first:
            raise DataError(f"{row.where} repeats {row.path} of {first[file]}; remove one of the two")
        first[file] = row.where


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
