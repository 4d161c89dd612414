"""Embeddings of photographs in a Parquet file, a row each: any files, or all of a run; to search.

    path        text, as it was given
    label       text, the class of a photograph of a run; null where it is not known
    split       text, train, validation or test of the run; null where it is not known
    embedding   V, a list of `width` float32

The metadata of the file name the model by the digest of its weights: embeddings of two models cannot be
compared, so a file of another model is refused. Needs pyarrow, the extra `parquet`.

The nearest photographs have the largest cosine, exact, by one matrix product. On two CPU cores 50,000
embeddings of width 768 answer in milliseconds (benchmarks/search.py), so there is no approximate index.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpfgvc.data.run_photos import photos_of_run
from mpfgvc.data.samples import Photograph, Sample, counted
from mpfgvc.errors import CheckpointError, DataError, check_at_least, one_line
from mpfgvc.files import new_file, pyarrow_for
from mpfgvc.inference.predictor import Predictor
from mpfgvc.run_folder import RunFolder
from mpfgvc.terms import Precision

KEY = b"mpfgvc"
"""Where the metadata of the file have a document of ours."""
ERROR = "error"
"""The column of a job's rows that says why a photograph cannot be read."""
_WHAT = "embeddings"
_ROWS = 1024


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


@dataclass(frozen=True, kw_only=True)
class EmbeddedPhotos:
    """What was written: the file, the number of its rows, and the photographs that could not be read."""

    path: Path
    count: int
    unreadable: tuple[str, ...]
    notes: tuple[str, ...] = ()
    """Lines for people: what was left out."""

    def to_dict(self) -> dict[str, Any]:
        """The document of `mpfgvc embed --json`."""
        return {"embeddings": str(self.path), "count": self.count, "unreadable": list(self.unreadable)}


def embed_photos(
    predictor: Predictor,
    photographs: Iterable[str | Path | Photograph],
    *,
    out: Path,
    classes: Sequence[str] = (),
    batch_size: int = 32,
) -> EmbeddedPhotos:
    """Write the embeddings of photographs to `out`; the classes of samples are named by `classes`.

    Raises OutputError; unreadable photographs are left out and named.
    """
    paths, labels, splits, values, unreadable = [], [], [], [], []
    for embedded in predictor.embed_files(photographs, batch_size=batch_size):
        photo = embedded.photograph
        if embedded.embedding is None:
            unreadable.append(str(photo.path))
            continue
        label, split = (classes[photo.label], photo.split) if isinstance(photo, Sample) else (None, None)
        paths.append(str(photo.path))
        labels.append(label)
        splits.append(split)
        values.append(embedded.embedding)
    table = EmbeddingTable(
        paths=tuple(paths),
        labels=tuple(labels),
        splits=tuple(splits),
        values=np.array(values, dtype=np.float32).reshape(-1, predictor.backend.width),
        model=predictor.digest,
    )
    write_embeddings(table, out)
    what = "photographs that cannot be read, left out"
    notes = (counted(what, unreadable, len(paths) + len(unreadable)),) if unreadable else ()
    return EmbeddedPhotos(path=out, count=len(paths), unreadable=tuple(unreadable), notes=notes)


def embed_run(
    run: str | Path,
    *,
    out: Path | None = None,
    root: str | Path | None = None,
    manifest: str | Path | None = None,
    batch_size: int = 32,
    device: str = "auto",
    precision: Precision = "fp32",
) -> EmbeddedPhotos:
    """Write the embeddings of all photographs of a run, with class and split; None = into the run folder.

    `root` and `manifest` say where the dataset is now, if it moved. Raises CheckpointError for a folder that
    is not a run or has no model, DataError if none of its photographs is there.
    """
    folder = RunFolder(run)
    if not folder.is_run:
        raise CheckpointError(f"{run} is not a run folder, it has no photographs; name some photographs")
    restored = photos_of_run(folder, root=root, manifest=manifest)
    samples = [sample for split in ("train", "validation", "test") for sample in restored.found(split)]
    predictor = Predictor.from_pretrained(run, device=device, precision=precision)
    embedded = embed_photos(
        predictor, samples, out=out or folder.embeddings, classes=restored.photos.classes, batch_size=batch_size
    )
    return replace(embedded, notes=(*restored.notes, *embedded.notes))


def write_embeddings(table: EmbeddingTable, path: Path) -> None:
    """Write a file, whole or not at all. Raises OutputError."""
    arrow, width = pyarrow_for(_WHAT), table.values.shape[1]
    text = arrow.string()
    fields = {"path": text, "label": text, "split": text, "embedding": arrow.list_(arrow.float32(), width)}
    schema = arrow.schema(fields, metadata=about_embeddings(width=width, model=table.model))
    columns = {
        "path": table.paths,
        "label": table.labels,
        "split": table.splits,
        "embedding": arrow.FixedSizeListArray.from_arrays(arrow.array(table.values.ravel()), width),
    }
    with new_file(path) as part:
        arrow.parquet.write_table(arrow.table(columns, schema=schema), part, write_page_checksum=True)


def read_embeddings(path: Path) -> EmbeddingTable:
    """The rows of a file, or of a folder of them (scale/jobs.py), without photographs that cannot be read.

    Raises DataError for one that cannot be read or is not one of embeddings.
    """
    try:
        table = pyarrow_for(_WHAT).parquet.read_table(path, page_checksum_verification=True)
        about = json.loads((table.schema.metadata or {}).get(KEY, b"null"))
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
        raise DataError(f"cannot read {path}: {one_line(error)}; make it with mpfgvc embed") from None
    if about is None:
        raise DataError(f"{path} is not a file of mpfgvc embed: its metadata name no model; make it with that")
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


def _texts(table: Any, column: str) -> tuple[str | None, ...]:
    """A column of text; nothing in each row where there is no such column."""
    return tuple(table[column].to_pylist()) if column in table.column_names else (None,) * len(table)


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
        self, queries: NDArray[np.float32], *, top: int = 5, label: str | None = None, split: str | None = None
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
        return [self._neighbours(rows[best], row[best]) for row in similarities for best in [largest(row, top)]]

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


def nearest_others(embeddings: NDArray[np.float32], count: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The `count` other photographs that are nearest to each by cosine, nearest first: indices and cosines.

    Both are (photographs, count), with fewer columns where there are fewer others. Works in blocks of rows,
    so memory stays bounded.
    """
    unit = unit_rows(embeddings)
    count = max(0, min(count, len(unit) - 1))
    indices, cosines = np.zeros((len(unit), count), np.int64), np.zeros((len(unit), count), np.float32)
    for start in range(0, len(unit) if count else 0, _ROWS):
        block = unit[start : start + _ROWS] @ unit.T
        rows = np.arange(len(block))
        block[rows, rows + start] = -2
        best = np.stack([largest(row, count) for row in block])
        indices[start : start + _ROWS] = best
        cosines[start : start + _ROWS] = np.take_along_axis(block, best, axis=1)
    return indices, cosines


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
