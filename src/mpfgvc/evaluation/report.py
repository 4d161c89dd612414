"""What `mpfgvc evaluate --report FOLDER` writes: tables as CSV in UTF-8, `report.json`, and a page.

    per_class.csv             each class: its photographs and its accuracy by each source
    confusion_<source>.csv    `true,predicted,count` for each pair that occurred, right answers included; a
                              whole matrix of 8,142 classes would have 66 million fields, nearly all of them 0
    wrong.csv                 every photograph that was taken for another class, the surest first
    suspects.csv              the same ones, the least probable label first
    pairs.csv                 the pairs of classes with a mistake between them, the most mistakes first
    reliability.csv, coverage.csv    what the two charts of the probabilities show
    slowest.csv               the classes that the training learned last, if it wrote that down
    report.json               the document of `evaluate --json`, with intervals and calibration
    index.html                all of it to look at, without any other file (report_page.py)

Without scipy or jinja2, the extra `compare`, only the tables that need neither are there, and a line says so.
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from mpfgvc.evaluation.answers import Answers
from mpfgvc.evaluation.findings import Findings, Statistics, find, statistics_of
from mpfgvc.evaluation.learning import learning_of
from mpfgvc.evaluation.metrics import Evaluation, SourceMetrics
from mpfgvc.evaluation.mistakes import Judged
from mpfgvc.evaluation.report_page import report_page
from mpfgvc.evaluation.report_photos import ReportPhotos
from mpfgvc.pages.render import missing
from mpfgvc.progress import say
from mpfgvc.storage.whole_files import make_folder, write_text

Row = Sequence[object]


def write_report(
    evaluation: Evaluation,
    folder: str | Path,
    *,
    photos: ReportPhotos | None = None,
    class_accuracy: Path | None = None,
) -> None:
    """Write everything into a folder, which is made if it is not there.

    `photos` draws the photographs, without which the page has none; `class_accuracy` is the file of the run
    that says how its classes were learned. Raises OutputError.
    """
    target = make_folder(Path(folder))
    _write_csv(target / "per_class.csv", _per_class(evaluation))
    for source, metrics in evaluation.sources.items():
        _write_csv(target / f"confusion_{source}.csv", _confusion(evaluation.classes, metrics))
    learning = learning_of(class_accuracy, evaluation.classes)
    findings = find(evaluation, root=None if photos is None else photos.root, learning=learning)
    if findings is None or evaluation.answers is None:
        say(f"{target} has no page: only counts were kept, not what was said about each photograph")
        return
    _write_mistakes(findings, target)
    _write_page(findings, evaluation.answers, target, photos)


def _write_mistakes(findings: Findings, target: Path) -> None:
    _write_csv(target / "wrong.csv", _photographs(findings, findings.wrong))
    _write_csv(target / "suspects.csv", _photographs(findings, findings.suspects))
    _write_csv(target / "pairs.csv", _pairs(findings))
    if findings.learning.classes:
        _write_csv(target / "slowest.csv", _slowest(findings))


def _write_page(findings: Findings, answers: Answers, target: Path, photos: ReportPhotos | None) -> None:
    if (reason := missing("jinja2", "scipy")) is not None:
        say(f"{target} has no index.html, report.json, reliability.csv and coverage.csv: they need {reason}")
        return
    statistics = statistics_of(findings, answers)
    _write_csv(target / "reliability.csv", _reliability(statistics))
    _write_csv(target / "coverage.csv", _coverage(statistics))
    document = {**findings.evaluation.to_dict(), **statistics.to_dict()}
    write_text(target / "report.json", json.dumps(document, indent=2) + "\n")
    write_text(target / "index.html", report_page(findings, statistics, photos))


def _per_class(evaluation: Evaluation) -> Iterator[Row]:
    """Accuracies with four digits; empty for a class without photographs."""
    totals = evaluation.main.totals().tolist()
    columns = [metrics.per_class().tolist() for metrics in evaluation.sources.values()]
    yield "class", "count", *evaluation.sources
    for name, total, *accuracies in zip(evaluation.classes, totals, *columns, strict=True):
        yield name, total, *(f"{accuracy:.4f}" if total else "" for accuracy in accuracies)


def _confusion(classes: Sequence[str], metrics: SourceMetrics) -> Iterator[Row]:
    yield "true", "predicted", "count"
    for pair in metrics.pairs:
        yield classes[pair.true], classes[pair.predicted], pair.count


def _photographs(findings: Findings, some: Iterable[Judged]) -> Iterator[Row]:
    classes = findings.evaluation.classes
    yield "path", "true", "guess", "probability", "truth_probability", "truth_rank"
    for each in some:
        names = (classes[each.true], classes[each.guess])
        yield findings.shown[each.place], *names, each.probability, each.truth, each.rank


def _pairs(findings: Findings) -> Iterator[Row]:
    classes = findings.evaluation.classes
    yield "first", "second", "mistakes", "first_as_second", "second_as_first"
    for pair in findings.pairs:
        counts = (pair.count, pair.first_as_second, pair.second_as_first)
        yield classes[pair.first], classes[pair.second], *counts


def _slowest(findings: Findings) -> Iterator[Row]:
    epochs = len(findings.learning.classes[0].accuracies)
    yield "class", "mean", *(f"epoch_{number}" for number in range(1, epochs + 1))
    for each in findings.learning.classes:
        yield findings.evaluation.classes[each.label], f"{each.mean:.4f}", *each.accuracies


def _reliability(statistics: Statistics) -> Iterator[Row]:
    yield "low", "high", "count", "confidence", "accuracy"
    for each in statistics.calibration.bins:
        values = (each.low, each.high, each.confidence, each.accuracy)
        low, high, confidence, accuracy = (f"{value:.4f}" for value in values)
        yield low, high, each.count, confidence, accuracy


def _coverage(statistics: Statistics) -> Iterator[Row]:
    yield "coverage", "accuracy", "threshold"
    for each in statistics.calibration.coverage:
        yield f"{each.coverage:.4f}", f"{each.accuracy:.4f}", each.threshold


def _write_csv(path: Path, rows: Iterable[Row]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_text(path, text.getvalue())
