"""Embeddings of photographs as a Parquet file, a row for each photograph.

    path        text, as it was given
    label       text, the class of a photograph of a run; null where it is not known
    split       text, train, validation or test of the run; null where it is not known
    embedding   V, a list of `width` float32

The metadata of the file name the model by the digest of its weights: embeddings of two models cannot be
compared, so a file of another model is refused. Needs pyarrow, the extra `parquet`.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpfgvc.errors import DataError, one_line
from mpfgvc.files import new_file, pyarrow_for

KEY = b"mpfgvc"
"""Where the metadata of the file have a document of ours."""
ERROR = "error"
"""The column of a job's rows that says why a photograph cannot be read."""
ROWS_AT_ONCE = 4096
_WHAT = "embeddings"


@dataclass(frozen=True, kw_only=True)
class EmbeddedPhoto:
    """One row."""

    path: str
    embedding: NDArray[np.float32]
    label: str | None = None
    split: str | None = None


@dataclass(frozen=True, kw_only=True)
class EmbeddingTable:
    """The rows of a file, column by column; `model` is the digest of the model's weights, "" if unknown."""

    paths: tuple[str, ...]
    labels: tuple[str | None, ...]
    splits: tuple[str | None, ...]
    values: NDArray[np.float32]
    """(photographs, width)"""
    model: str = ""

    def __len__(self) -> int:
        return len(self.paths)


class EmbeddingWriter:
    """Takes rows in any number and writes them in groups."""

    def __init__(self, writer: Any, schema: Any) -> None:
        self._writer, self._schema = writer, schema
        self._rows: list[EmbeddedPhoto] = []
        self.count = 0

    def add(self, photo: EmbeddedPhoto) -> None:
        """Take one row."""
        self._rows.append(photo)
        self.count += 1
        if len(self._rows) == ROWS_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Write the rows that were taken and not written."""
        rows, self._rows = self._rows, []
        if rows:
            columns = {
                "path": [row.path for row in rows],
                "label": [row.label for row in rows],
                "split": [row.split for row in rows],
                "embedding": list(np.stack([row.embedding for row in rows])),
            }
            self._writer.write_table(pyarrow_for(_WHAT).table(columns, schema=self._schema))


@contextmanager
def write_embeddings(path: Path, *, width: int, model: str) -> Iterator[EmbeddingWriter]:
    """A writer of the file, which is there, whole, when the block succeeds. Raises OutputError."""
    arrow = pyarrow_for(_WHAT)
    text = arrow.string()
    fields = {"path": text, "label": text, "split": text, "embedding": arrow.list_(arrow.float32(), width)}
    schema = arrow.schema(fields, metadata=about_embeddings(width=width, model=model))
    with new_file(path) as part, arrow.parquet.ParquetWriter(part, schema) as parquet:
        writer = EmbeddingWriter(parquet, schema)
        yield writer
        writer.flush()


def read_embeddings(path: Path) -> EmbeddingTable:
    """The rows of a file, or of a folder of them (scale/job.py), without photographs that cannot be read.

    Raises DataError for one that cannot be read or is not one of embeddings.
    """
    try:
        table = pyarrow_for(_WHAT).parquet.read_table(path)
        about = json.loads((table.schema.metadata or {}).get(KEY, b"null"))
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
        raise DataError(f"cannot read {path}: {one_line(error)}; make it with mpfgvc embed") from None
    if about is None:
        raise DataError(
            f"{path} is not a file of mpfgvc embed: its metadata name no model; make it with that"
        )
    if ERROR in table.column_names:
        table = table.filter(table[ERROR].is_null())
    values = table["embedding"].combine_chunks().flatten().to_numpy()
    return EmbeddingTable(
        paths=tuple(table["path"].to_pylist()),
        labels=_texts(table, "label"),
        splits=_texts(table, "split"),
        values=values.reshape(-1, about["width"]),
        model=about["model"],
    )


def about_embeddings(*, width: int, model: str) -> dict[bytes, bytes]:
    """The metadata of a file of embeddings."""
    return {KEY: json.dumps({"model": model, "width": width}).encode()}


def refuse_missing_pyarrow() -> None:
    """Raise ConfigError if pyarrow is not installed, before anything is computed in vain."""
    pyarrow_for(_WHAT)


def _texts(table: Any, column: str) -> tuple[str | None, ...]:
    """A column of text; nothing in each row where there is no such column."""
    return tuple(table[column].to_pylist()) if column in table.column_names else (None,) * len(table)
