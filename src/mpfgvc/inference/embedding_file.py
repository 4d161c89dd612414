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

from mpfgvc.errors import ConfigError, DataError, one_line
from mpfgvc.storage.whole_files import new_file

KEY = b"mpfgvc"
"""Where the metadata of the file have a document of ours."""
ROWS_AT_ONCE = 4096


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
            self._writer.write_table(_pyarrow().table(columns, schema=self._schema))


@contextmanager
def write_embeddings(path: Path, *, width: int, model: str) -> Iterator[EmbeddingWriter]:
    """A writer of the file, which is there, whole, when the block succeeds. Raises OutputError."""
    arrow = _pyarrow()
    text = arrow.string()
    fields = {"path": text, "label": text, "split": text, "embedding": arrow.list_(arrow.float32(), width)}
    about = {KEY: json.dumps({"model": model, "width": width}).encode()}
    schema = arrow.schema(fields, metadata=about)
    with new_file(path) as part, _parquet().ParquetWriter(part, schema) as parquet:
        writer = EmbeddingWriter(parquet, schema)
        yield writer
        writer.flush()


def read_embeddings(path: Path) -> EmbeddingTable:
    """The rows of a file. Raises DataError for one that cannot be read or is not one of embeddings."""
    try:
        table = _parquet().read_table(path)
        about = json.loads((table.schema.metadata or {}).get(KEY, b"null"))
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
        raise DataError(f"cannot read {path}: {one_line(error)}; make it with mpfgvc embed") from None
    if about is None:
        raise DataError(
            f"{path} is not a file of mpfgvc embed: its metadata name no model; make it with that"
        )
    values = table["embedding"].combine_chunks().flatten().to_numpy()
    return EmbeddingTable(
        paths=tuple(table["path"].to_pylist()),
        labels=tuple(table["label"].to_pylist()),
        splits=tuple(table["split"].to_pylist()),
        values=values.reshape(-1, about["width"]),
        model=about["model"],
    )


def refuse_missing_pyarrow() -> None:
    """Raise ConfigError if pyarrow is not installed, before anything is computed in vain."""
    _pyarrow()


def _pyarrow() -> Any:
    try:
        import pyarrow
    except ImportError:
        raise ConfigError(
            "embeddings are kept in Parquet, which needs pyarrow: pip install 'mpfgvc[parquet]'"
        ) from None
    return pyarrow


def _parquet() -> Any:
    _pyarrow()
    from pyarrow import parquet

    return parquet
