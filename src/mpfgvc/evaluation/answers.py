"""What a model answered about each photograph, on disk: `predictions-<split>.csv` in the run folder.

A row for each photograph that was evaluated, in the order of the dataset: its path below the dataset's
root, its class, and what each source of logits took it for. Behind them stand the probability of that
guess, the probability and the rank of the right class (`fusion_probability,fusion_truth,fusion_rank`). Two
models that saw the same photographs can be compared by it, one by one.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mpfgvc.errors import CheckpointError
from mpfgvc.evaluation.metrics import Answers, SourceMetrics
from mpfgvc.files import check_digest, write_with_digest

_PARTS = ("probability", "truth", "rank")


def save_answers(answers: Answers, path: Path) -> None:
    """Write the file and its digest; probabilities have six digits. Raises OutputError."""
    names, sources = np.array(answers.classes, dtype=object), answers.sources
    labels = next(iter(sources.values())).labels
    columns = [answers.paths, names[labels], *(names[metrics.guesses] for metrics in sources.values())]
    for metrics in sources.values():
        columns += [[f"{value:.6g}" for value in values] for values in (metrics.probability, metrics.truth)]
        columns.append(metrics.ranks)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "label", *sources, *(f"{name}_{part}" for name in sources for part in _PARTS)])
    writer.writerows(zip(*columns, strict=True))
    write_with_digest(path, text.getvalue().encode(errors="surrogateescape"))


def load_answers(path: Path) -> Answers:
    """What `save_answers` wrote; its classes are those that occur, sorted by name.

    Raises CheckpointError for a file that is missing or damaged.
    """
    check_digest(path)
    try:
        text = path.read_bytes().decode(errors="surrogateescape")
        heading, *rows = csv.reader(io.StringIO(text, newline=""))
        columns = list(zip(*rows, strict=True)) if rows else [()] * len(heading)
        return _read(dict(zip(heading, columns, strict=True)))
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}; restore the file") from None
    except (ValueError, KeyError, csv.Error) as error:
        raise CheckpointError(f"{path} is not a table of predictions: {error}; restore the file") from None


def _read(cells: Mapping[str, Sequence[str]]) -> Answers:
    names = [name.removesuffix("_rank") for name in cells if name.endswith("_rank")]
    if not names:
        raise ValueError("it has no column such as fusion_rank")
    classes = sorted({label for name in ("label", *names) for label in cells[name]})
    number = {name: label for label, name in enumerate(classes)}

    def read(source: str) -> SourceMetrics:
        label_columns = [
            np.array([number[name] for name in cells[key]], np.int64) for key in ("label", source)
        ]
        probability, truth, ranks = (np.array(cells[f"{source}_{part}"], np.float64) for part in _PARTS)
        rows = np.stack([label_columns[1], ranks, probability, truth], axis=1)
        return SourceMetrics.of(rows, label_columns[0], len(classes))

    return Answers(
        paths=tuple(cells["path"]), classes=tuple(classes), sources={name: read(name) for name in names}
    )
