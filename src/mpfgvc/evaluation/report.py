"""The tables of `mpfgvc evaluate --report FOLDER`, as CSV in UTF-8.

`per_class.csv` has a row for each class: its photographs and its accuracy by each source.
`confusion_<source>.csv` has a row `true,predicted,count` for each pair of classes that occurred, right
guesses included; a whole matrix of 8,142 classes would have 66 million fields, nearly all of them 0.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from mpfgvc.evaluation.metrics import Evaluation, SourceMetrics
from mpfgvc.storage.whole_files import make_folder, write_text


def write_report(evaluation: Evaluation, folder: str | Path) -> None:
    """Write the tables into a folder, which is made if it is not there. Raises OutputError."""
    target = make_folder(Path(folder))
    _write_csv(target / "per_class.csv", _per_class(evaluation))
    for source, metrics in evaluation.sources.items():
        _write_csv(target / f"confusion_{source}.csv", _confusion(evaluation.classes, metrics))


def _per_class(evaluation: Evaluation) -> Iterable[Sequence[object]]:
    """Accuracies with four digits; empty for a class without photographs."""
    totals = evaluation.main.totals().tolist()
    columns = [metrics.per_class().tolist() for metrics in evaluation.sources.values()]
    yield "class", "count", *evaluation.sources
    for name, total, *accuracies in zip(evaluation.classes, totals, *columns, strict=True):
        yield name, total, *(f"{accuracy:.4f}" if total else "" for accuracy in accuracies)


def _confusion(classes: Sequence[str], metrics: SourceMetrics) -> Iterable[Sequence[object]]:
    yield "true", "predicted", "count"
    for pair in metrics.pairs:
        yield classes[pair.true], classes[pair.predicted], pair.count


def _write_csv(path: Path, rows: Iterable[Sequence[object]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_text(path, text.getvalue())
