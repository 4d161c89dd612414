"""What a model answered about each photograph: `predictions-<split>.csv` in the run folder.

A row `path,label,vision,text,fusion` for each photograph that was evaluated, in the order of the dataset:
its path below the dataset's root, its class, and the class that each source of logits took it for. Two
models that saw the same photographs can be compared by it, photograph by photograph.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mpfgvc.data.photo_list import relative_path
from mpfgvc.errors import CheckpointError
from mpfgvc.storage.digests import check_digest, write_with_digest


@dataclass(frozen=True, kw_only=True)
class Answers:
    """Paths and classes of some photographs, and the class that each source took each of them for."""

    paths: tuple[str, ...]
    labels: tuple[str, ...]
    predicted: Mapping[str, tuple[str, ...]]
    """By source, in the order of the paths."""

    def below(self, root: Path | None) -> Answers:
        """The same with paths from the dataset's root, which hold wherever the dataset is."""
        return replace(self, paths=tuple(relative_path(Path(path), root) for path in self.paths))

    def right(self, source: str) -> NDArray[np.bool_]:
        """Whether a source was right about each photograph. Raises KeyError for an unknown source."""
        pairs = zip(self.labels, self.predicted[source], strict=True)
        return np.array([label == predicted for label, predicted in pairs], dtype=bool)


def save_answers(answers: Answers, path: Path) -> None:
    """Write the file and its digest. Raises OutputError."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "label", *answers.predicted])
    writer.writerows(zip(answers.paths, answers.labels, *answers.predicted.values(), strict=True))
    write_with_digest(path, text.getvalue().encode(errors="surrogateescape"))


def load_answers(path: Path) -> Answers:
    """What `save_answers` wrote. Raises CheckpointError for a file that is missing or damaged."""
    check_digest(path)
    try:
        text = path.read_bytes().decode(errors="surrogateescape")
        heading, *rows = csv.reader(io.StringIO(text, newline=""))
        columns = list(zip(*rows, strict=True)) if rows else [()] * len(heading)
        if heading[:2] != ["path", "label"] or len(columns) != len(heading):
            raise ValueError("its heading is not path, label and sources")
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}; restore the file") from None
    except (ValueError, csv.Error) as error:
        raise CheckpointError(f"{path} is not a table of predictions: {error}; restore the file") from None
    paths, labels, *predicted = columns
    return Answers(paths=paths, labels=labels, predicted=dict(zip(heading[2:], predicted, strict=True)))
