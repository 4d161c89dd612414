"""`photographs.json`: the photographs of a run, or of packed shards, with class, split and digest."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, TypeAdapter, ValidationError

from mpfgvc.data.samples import SPLITS, PhotoSet, Samples, Split
from mpfgvc.errors import CheckpointError, DataError, one_line
from mpfgvc.files import check_digest, write_with_digest

PHOTOGRAPHS = "photographs.json"
_Row = tuple[
    str,  # without a rule, as names that are not UTF-8 would be refused
    Annotated[int, Field(ge=0, strict=True)],
    Split,
    Annotated[str, Field(pattern="^([0-9a-f]{32})?$")],
]


@dataclass(frozen=True, kw_only=True)
class _Document:
    format: Literal[1]
    dataset: str
    supercategory: str | None
    classes: tuple[str, ...]
    columns: tuple[Literal["path"], Literal["label"], Literal["split"], Literal["digest"]]
    photographs: Annotated[list[_Row], Field(min_length=1)]


def save_photos(photos: PhotoSet, path: Path) -> None:
    """Write the list and its digest, a line for each photograph, in ASCII. Raises OutputError.

    File names that are not UTF-8 keep their bytes.
    """
    head = {
        "format": 1,
        "dataset": photos.name,
        "supercategory": photos.supercategory,
        "classes": photos.classes,
        "columns": ("path", "label", "split", "digest"),
    }
    samples = photos.samples
    splits = [SPLITS[split] for split in samples.splits]
    digests = [digest.decode() for digest in samples.digests]
    rows = zip(samples.paths, samples.labels.tolist(), splits, digests, strict=True)
    lines = [f"{json.dumps(key)}: {json.dumps(value)}," for key, value in head.items()]
    body = ",\n".join(map(json.dumps, rows))
    text = "\n".join(["{", *lines, '"photographs": [', body, "]}"]) + "\n"
    write_with_digest(path, text.encode("ascii"))


def load_photos(path: Path) -> PhotoSet:
    """The list; its paths start from no root yet. Raises CheckpointError if it is damaged."""
    try:
        check_digest(path)
        stored = TypeAdapter(_Document).validate_python(json.loads(path.read_bytes()))
        rows, classes = stored.photographs, stored.classes
        samples = Samples.of(None, [(name, label, split) for name, label, split, _ in rows])
        names = set(samples.paths)
        if len(names) < len(samples) or "." in names or "\0" in "".join(names):
            raise ValueError("each photograph must be listed once, by its path")
        if samples.labels.max() >= len(classes):
            raise ValueError(f"a label must be below {len(classes)}, got {samples.labels.max()}")
        return PhotoSet(
            name=stored.dataset,
            classes=classes,
            supercategory=stored.supercategory,
            samples=replace(samples, digests=np.array([row[3] for row in rows], "S32")),
        )
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}; restore the file") from None
    except ValidationError as error:
        first = error.errors()[0]
        reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}, got {first['input']!r:.40}"
    except (ValueError, RecursionError, DataError) as error:
        reason = one_line(error)
    raise CheckpointError(f"{path} is not a list of photographs: {reason}; restore the file")
