"""Nearest photographs: the cosine of embeddings, exact, by one matrix product.

On two CPU cores 50,000 embeddings of width 768 answer in milliseconds (benchmarks/search.py), so there is no
approximate index and nothing to build.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mpfgvc.errors import DataError, check_at_least
from mpfgvc.inference.embeddings import EmbeddingTable, read_embeddings
from mpfgvc.inference.predictor import Predictor


@dataclass(frozen=True, kw_only=True)
class Neighbour:
    """A photograph that was found; `similarity` is the cosine of both embeddings, -1..1."""

    path: str
    label: str | None
    similarity: float


class EmbeddingIndex:
    """The embeddings of a table at length 1."""

    def __init__(self, table: EmbeddingTable) -> None:
        self.table = table
        self._unit = unit_rows(table.values)
        self._labels = np.array(table.labels, dtype=object)
        self._splits = np.array(table.splits, dtype=object)

    def nearest(
        self,
        queries: NDArray[np.float32],
        *,
        top: int = 5,
        label: str | None = None,
        split: str | None = None,
    ) -> list[list[Neighbour]]:
        """The `top` nearest photographs of each query, (queries, width), nearest first.

        `label` and `split` look only at the photographs of this class and of this split. Of equal ones the
        first of the table comes first. Raises ConfigError for `top`.
        """
        check_at_least(1, "top", top)
        wanted = np.ones(len(self.table), dtype=bool)
        if label is not None:
            wanted &= self._labels == label
        if split is not None:
            wanted &= self._splits == split
        rows = np.flatnonzero(wanted)
        unit = self._unit if wanted.all() else self._unit[rows]
        similarities = unit_rows(queries) @ unit.T
        return [
            self._neighbours(rows[best], row[best]) for row in similarities for best in [largest(row, top)]
        ]

    def _neighbours(self, rows: NDArray[np.int64], similarities: NDArray[np.float32]) -> list[Neighbour]:
        table = self.table
        return [
            Neighbour(path=table.paths[row], label=table.labels[row], similarity=float(similarity))
            for row, similarity in zip(rows, similarities, strict=True)
        ]


def index_for(predictor: Predictor, path: Path) -> EmbeddingIndex:
    """The index of a file of `mpfgvc embed`.

    Raises DataError for one that cannot be read, and for embeddings of another model than the predictor's.
    """
    table = read_embeddings(path)
    if table.model != predictor.digest:
        hint = f"make it again: mpfgvc embed {predictor.backend.facts.name} PHOTOS -o {path}"
        raise DataError(f"{path} holds embeddings of another model, which cannot be compared; {hint}")
    return EmbeddingIndex(table)


def unit_rows(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each row at length 1; a row of zeros stays as it is."""
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    unit: NDArray[np.float32] = values / np.maximum(lengths, np.finfo(np.float32).tiny)
    return unit


def largest(similarities: NDArray[np.float32], top: int) -> NDArray[np.int64]:
    """The indices of the `top` largest numbers of a row, largest first, equal ones in order."""
    if top < len(similarities):
        smallest = np.partition(similarities, -top)[-top]
        indices = np.flatnonzero(similarities >= smallest)
    else:
        indices = np.arange(len(similarities))
    order: NDArray[np.int64] = indices[np.argsort(-similarities[indices], kind="stable")][:top]
    return order
