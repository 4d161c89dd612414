"""What a model answered about each photograph: `predictions-<split>.csv` in the run folder.

A row `path,label,vision,text,fusion` for each photograph that was evaluated, in the order of the dataset:
its path below the dataset's root, its class, and the class that each source of logits took it for. Behind
them stands how sure each source was (`fusion_probability,fusion_truth,fusion_rank`); runs of older versions
lack these columns. Two models that saw the same photographs can be compared by it, one by one.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from mpfgvc.data.photo_list import relative_path
from mpfgvc.errors import CheckpointError
from mpfgvc.storage.digests import check_digest, write_with_digest

DIGITS = 6
"""Significant digits of a probability; the same in memory and on disk."""
_PARTS = ("probability", "truth", "rank")


@dataclass(frozen=True, kw_only=True)
class Certainty:
    """How sure one source was of each photograph, in the order of the paths. Probabilities are in 0..1."""

    probability: tuple[float, ...]
    """Of the answer."""
    truth: tuple[float, ...]
    """Of the right class; that of the answer where the answer is right."""
    rank: tuple[int, ...]
    """Place of the right class among all of them: 1 where the answer is right."""

    @classmethod
    def read(cls, columns: Sequence[Sequence[str]]) -> Self:
        """From the cells of its three columns. Raises ValueError for what is not a number."""
        probability, truth, rank = columns
        return cls(
            probability=tuple(map(float, probability)),
            truth=tuple(map(float, truth)),
            rank=tuple(map(int, rank)),
        )

    def columns(self) -> list[Iterable[str]]:
        """The cells of its three columns."""
        probabilities = [
            [f"{each:.{DIGITS}g}" for each in column] for column in (self.probability, self.truth)
        ]
        return [*probabilities, map(str, self.rank)]


@dataclass(frozen=True, kw_only=True)
class Answers:
    """Paths and classes of some photographs, and the class that each source took each of them for."""

    paths: tuple[str, ...]
    labels: tuple[str, ...]
    predicted: Mapping[str, tuple[str, ...]]
    """By source, in the order of the paths."""
    certainty: Mapping[str, Certainty] = field(default_factory=dict)
    """By source; empty if it was not recorded."""

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
    names = [name for source in answers.certainty for name in _columns(source)]
    cells = [column for certainty in answers.certainty.values() for column in certainty.columns()]
    writer.writerow(["path", "label", *answers.predicted, *names])
    writer.writerows(zip(answers.paths, answers.labels, *answers.predicted.values(), *cells, strict=True))
    write_with_digest(path, text.getvalue().encode(errors="surrogateescape"))


def load_answers(path: Path) -> Answers:
    """What `save_answers` wrote, now or in an older version.

    Raises CheckpointError for a file that is missing or damaged.
    """
    check_digest(path)
    try:
        text = path.read_bytes().decode(errors="surrogateescape")
        heading, *rows = csv.reader(io.StringIO(text, newline=""))
        return _read(heading, list(zip(*rows, strict=True)) if rows else [()] * len(heading))
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}; restore the file") from None
    except (ValueError, csv.Error) as error:
        raise CheckpointError(f"{path} is not a table of predictions: {error}; restore the file") from None


def _read(heading: Sequence[str], columns: Sequence[tuple[str, ...]]) -> Answers:
    if heading[:2] != ["path", "label"] or len(columns) != len(heading):
        raise ValueError("its heading is not path, label and sources")
    cells = dict(zip(heading, columns, strict=True))
    sure = [name.removesuffix("_rank") for name in heading[2:] if name.endswith("_rank")]
    parts = {name for source in sure for name in _columns(source)}
    if missing := parts - cells.keys():
        raise ValueError(f"its column {min(missing)} is missing")
    return Answers(
        paths=cells["path"],
        labels=cells["label"],
        predicted={name: cells[name] for name in heading[2:] if name not in parts},
        certainty={source: Certainty.read([cells[name] for name in _columns(source)]) for source in sure},
    )


def _columns(source: str) -> list[str]:
    return [f"{source}_{part}" for part in _PARTS]
