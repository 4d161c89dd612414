"""The rows of `metrics.csv`: one for each epoch of each stage; epoch 0 is the pass that embeds photographs.

A file that was cut or damaged gives the rows that can still be read, and says how many
lines cannot. It is read line by line: no cell holds a line break.
"""

import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from errno import EFBIG
from pathlib import Path

COLUMNS = (
    "stage",
    "epoch",
    "step",
    "loss",
    "accuracy",
    "validation_vision",
    "validation_text",
    "validation_fusion",
    "images_per_second",
    "seconds",
)
LARGEST = 1 << 26
"""Bytes of a file that is still read: a million epochs have fewer."""
Row = Mapping[str, str | int | float]

_STAGE, _COUNT = re.compile(r"[a-z_]+\d*", re.ASCII), re.compile(r"\d{1,15}", re.ASCII)


@dataclass(frozen=True)
class Rows:
    """What a file holds: its readable rows, and the number of its lines that cannot be read."""

    rows: list[Row]
    damaged_lines: int = 0


def read_rows(path: Path) -> Rows:
    """The rows of a file; none if there is no file. Raises OSError if it cannot be read at all."""
    if not os.path.lexists(path):
        return Rows([])
    if not path.is_file():
        raise OSError(0, "it is not a file")
    if path.stat().st_size > LARGEST:
        raise OSError(EFBIG, os.strerror(EFBIG))
    heading, *lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    is_cut = (lines or [heading])[-1] != b""
    lines = [line for line in lines if line.strip()]
    columns = heading.decode(errors="replace").strip().split(",")
    if not _is_heading(columns):
        return Rows([], damaged_lines=len(lines) + bool(heading))
    whole = lines[:-1] if is_cut else lines
    rows = [row for line in whole if (row := _read_row(columns, line)) is not None]
    return Rows(rows, damaged_lines=len(lines) - len(rows))


def training_seconds(path: Path) -> float:
    """The wall time of all epochs and embedding passes in a file. Raises OSError if it cannot be read."""
    return sum(float(row["seconds"]) for row in read_rows(path).rows if row.get("seconds", "") != "")


def format_rows(rows: Iterable[Row]) -> str:
    """The text of a file with these rows; a row without some column has an empty cell."""
    lines = [",".join(_format(row.get(column, "")) for column in COLUMNS) for row in rows]
    return "\n".join([",".join(COLUMNS), *lines]) + "\n"


def is_before(row: Row, stage: str, step: int) -> bool:
    """Whether a row is from before or at a step of a stage; stages are in the order of their names."""
    return str(row["stage"]) < stage or (row["stage"] == stage and int(row["step"]) <= step)


def _format(cell: str | int | float) -> str:
    return f"{cell:.6g}" if isinstance(cell, float) else str(cell)


def _is_heading(columns: list[str]) -> bool:
    """Whether these are columns of ours; an older version may have had fewer."""
    names = set(columns)
    return len(names) == len(columns) and {"stage", "epoch", "step"} <= names <= set(COLUMNS)


def _read_row(columns: list[str], line: bytes) -> Row | None:
    cells = line.decode(errors="replace").strip("\r").split(",")
    if len(cells) != len(columns):
        return None
    row = dict(zip(columns, cells, strict=True))
    counts = _COUNT.fullmatch(row["epoch"]) and _COUNT.fullmatch(row["step"])
    if not (counts and _STAGE.fullmatch(row["stage"])):
        return None
    return row if all(_is_number(row[name]) for name in columns if name != "stage") else None


def _is_number(cell: str) -> bool:
    try:
        return cell == "" or math.isfinite(float(cell)) or cell in ("nan", "inf", "-inf")
    except ValueError:
        return False
