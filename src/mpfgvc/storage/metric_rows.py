"""The rows of `metrics.csv`: one for each epoch of each stage; epoch 0 is the pass that embeds photographs.

A training keeps its rows in its checkpoint and only writes this file; model cards and comparisons read it.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from mpfgvc.errors import CheckpointError, one_line

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
_HEADING = ",".join(COLUMNS)
Row = Mapping[str, str | int | float]


def format_rows(rows: Iterable[Row]) -> str:
    """The text of a file with these rows; a row without some column has an empty cell."""
    lines = [",".join(_cell(row.get(column, "")) for column in COLUMNS) for row in rows]
    return "\n".join([_HEADING, *lines]) + "\n"


def read_rows(path: Path) -> list[Row]:
    """The rows of a file; none if there is no file. Raises CheckpointError if it cannot be read."""
    try:
        heading, *lines = path.read_text("utf-8").splitlines() if path.exists() else [_HEADING]
        rows: list[Row] = [dict(zip(COLUMNS, line.split(","), strict=True)) for line in lines]
        if heading == _HEADING and all(str(row["step"]).isdecimal() for row in rows):
            return rows
        reason = f"its columns are not {_HEADING}"
    except (OSError, ValueError) as error:
        reason = one_line(error)
    hint = f"mpfgvc train --resume {path.parent} writes it again"
    raise CheckpointError(f"{path} cannot be read ({reason}); {hint}")


def training_seconds(rows: Iterable[Row]) -> float:
    """The wall time of all epochs and embedding passes."""
    return sum(float(row.get("seconds") or 0) for row in rows)


def _cell(value: str | int | float) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
