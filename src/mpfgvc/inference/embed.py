"""Embed photographs into a Parquet file: any files, or all photographs of a run with their classes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpfgvc.data.run_photos import photos_of_run
from mpfgvc.data.samples import Photograph, Sample, counted
from mpfgvc.errors import CheckpointError
from mpfgvc.inference.embedding_file import EmbeddedPhoto, write_embeddings
from mpfgvc.inference.predictor import Embedded, Predictor
from mpfgvc.run_folder import RunFolder
from mpfgvc.terms import Precision


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


def embed_paths(
    predictor: Predictor, paths: Sequence[str | Path], *, out: Path, batch_size: int = 32
) -> EmbeddedPhotos:
    """Write the embeddings of files to `out`. Raises OutputError; unreadable files are left out and named."""
    return _write(predictor, predictor.embed_files(paths, batch_size=batch_size), out=out, classes=())


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
    answers = predictor.embed_files(samples, batch_size=batch_size)
    embedded = _write(
        predictor,
        answers,
        out=out or folder.embeddings,
        classes=restored.photos.classes,
        notes=restored.notes,
    )
    return embedded


def _write(
    predictor: Predictor,
    answers: Iterable[Embedded],
    *,
    out: Path,
    classes: Sequence[str],
    notes: Sequence[str] = (),
) -> EmbeddedPhotos:
    unreadable = []
    width = predictor.backend.width
    with write_embeddings(out, width=width, model=predictor.digest) as file:
        for each in answers:
            if each.embedding is None:
                unreadable.append(str(each.photograph.path))
            else:
                file.add(_row(each.photograph, each.embedding, classes))
    what = "photographs that cannot be read, left out"
    more = [counted(what, unreadable, file.count + len(unreadable))] if unreadable else []
    return EmbeddedPhotos(path=out, count=file.count, unreadable=tuple(unreadable), notes=(*notes, *more))


def _row(photo: Photograph, values: NDArray[np.float32], classes: Sequence[str]) -> EmbeddedPhoto:
    if not isinstance(photo, Sample):
        return EmbeddedPhoto(path=str(photo.path), embedding=values)
    return EmbeddedPhoto(
        path=str(photo.path), embedding=values, label=classes[photo.label], split=photo.split
    )
