"""Tables for people: results on standard output, notes on standard error."""

import csv
import io
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mpfgvc.data.doctor import Report
from mpfgvc.evaluation.metrics import Evaluation, SourceMetrics
from mpfgvc.inference.guess import Guess
from mpfgvc.progress import say
from mpfgvc.storage import make_folder, write_text
from mpfgvc.training.run import Run

WORST_CLASSES = 5
CONFUSED_PAIRS = 5
WIDTH_OF_FILES = 240
Guesses = Sequence[tuple[Path, Sequence[Guess]]]


def print_run(run: Run) -> None:
    """What a training gave, and what to type next."""
    if run.metrics is None:
        say("nothing was tested: final_test is false, or the dataset has no test split")
    else:
        print_evaluation(run.metrics)
    print(f"run folder  {run.path}")
    print(f"next        mpfgvc predict {run.path} PHOTOS")


def print_evaluation(evaluation: Evaluation) -> None:
    """A row for each source of logits, then where the main source goes wrong."""
    print(f"{evaluation.split} split, {evaluation.count} photographs, {len(evaluation.classes)} classes")
    table = _table("source", "top-1 %", "top-5 %", "mean class %")
    for source, metrics in evaluation.sources.items():
        numbers = (metrics.top1, metrics.top5, metrics.mean_class)
        table.add_row(source, *(f"{100 * number:.1f}" for number in numbers))
    _print(table)
    _print_mistakes(evaluation.classes, evaluation.main)
    if evaluation.broken:
        first = evaluation.broken[0]
        say(f"{len(evaluation.broken)} photographs could not be read and were left out, first {first}")


def write_report(evaluation: Evaluation, folder: str | Path) -> None:
    """Write per_class.csv, and confusion_<source>.csv with a row for each true class. Raises OutputError."""
    target = make_folder(Path(folder))
    counts = evaluation.main.confusion.sum(dim=1).tolist()
    per_class = [metrics.per_class().tolist() for metrics in evaluation.sources.values()]
    rows = [
        [name, count, *(f"{accuracy:.4f}" for accuracy in accuracies)]
        for name, count, *accuracies in zip(evaluation.classes, counts, *per_class, strict=True)
    ]
    _write_csv(target / "per_class.csv", [["class", "count", *evaluation.sources], *rows])
    for source, metrics in evaluation.sources.items():
        table = zip(evaluation.classes, metrics.confusion.tolist(), strict=True)
        body = [[name, *row] for name, row in table]
        _write_csv(target / f"confusion_{source}.csv", [["true \\ predicted", *evaluation.classes], *body])


def print_guesses(guesses: Guesses) -> None:
    """A block for each photograph, its best guess first."""
    table = _table("photograph", "guess", "probability")
    for path, ranked in guesses:
        for rank, guess in enumerate(ranked):
            table.add_row(str(path) if rank == 0 else "", guess.label, f"{guess.probability:.3f}")
    if guesses:
        _print(table)


def print_guesses_csv(guesses: Guesses) -> None:
    """CSV with a row for each guess."""
    writer = csv.writer(sys.stdout)
    writer.writerow(["path", "rank", "label", "probability"])
    for path, ranked in guesses:
        for rank, guess in enumerate(ranked, start=1):
            writer.writerow([path, rank, guess.label, f"{guess.probability:.6f}"])


def print_check(report: Report) -> None:
    """What is in a dataset, then each finding."""
    print(f"{report.name}, {report.classes} classes")
    table = _table("split", "photographs")
    for split, count in report.counts.items():
        table.add_row(split, str(count))
    _print(table)
    print(f"smallest class  {report.smallest.name} ({report.smallest.count})")
    print(f"largest class   {report.largest.name} ({report.largest.count})")
    findings = [f"broken          {broken.path}: {broken.reason}" for broken in report.broken]
    findings += [f"in two splits   {', '.join(leak.paths)}" for leak in report.leaks]
    findings += [f"duplicate       {', '.join(each.paths)}" for each in report.duplicates if not each.leaks]
    findings += [f"very small      {path}" for path in report.small]
    findings += [f"one photograph  {name}" for name in report.single]
    findings += [f"note            {note}" for note in report.notes]
    print("\n".join(findings) if findings else "nothing is wrong with it")


def _print_mistakes(classes: Sequence[str], metrics: SourceMetrics) -> None:
    """The classes that were recognised worst and the pairs that were mistaken most."""
    per_class = metrics.per_class()
    order = [label for label in per_class.argsort().tolist() if per_class[label] < 1][:WORST_CLASSES]
    if order:
        worst = ", ".join(f"{classes[label]} {100 * per_class[label]:.0f}" for label in order)
        print(f"lowest accuracies (%): {worst}")
    mistakes = metrics.confusion.clone().fill_diagonal_(0).flatten()
    best = mistakes.topk(min(CONFUSED_PAIRS, len(mistakes)))
    pairs = [
        f"{classes[index // len(classes)]} as {classes[index % len(classes)]} ({count})"
        for count, index in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        if count > 0
    ]
    if pairs:
        print(f"most frequent mistakes: {', '.join(pairs)}")


def _table(*columns: str) -> Table:
    """A table without lines; numbers, whose columns are named after units or counts, stand to the right."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        is_number = column.endswith("%") or column in ("photographs", "probability")
        table.add_column(column, justify="right" if is_number else "left", overflow="fold")
    return table


def _print(table: Table) -> None:
    """Print to a terminal at its width, elsewhere wide enough for whole paths."""
    width = None if sys.stdout.isatty() else WIDTH_OF_FILES
    Console(file=sys.stdout, highlight=False, width=width).print(table)


def _write_csv(path: Path, rows: Sequence[Sequence[object]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_text(path, text.getvalue())
