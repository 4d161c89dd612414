"""What `mpfgvc data check` does once the dataset is read: check, say what was found, write files."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from mpfgvc.cli import output
from mpfgvc.cli.tables import write_check
from mpfgvc.data.doctor import CheckedDataset, CleanManifest, Report, check, write_clean_manifest
from mpfgvc.data.doctor_page import Finding, doctor_page, photo_finding
from mpfgvc.errors import printable
from mpfgvc.files import write_text
from mpfgvc.progress import say

if TYPE_CHECKING:
    from mpfgvc.training.labels import LabelCheck, Outlier, SuspectedLabel

SHOWN = 20
"""Suspected labels, and outliers, that are printed; --json and --page have all."""


def check_and_write(dataset: CheckedDataset, options: Namespace) -> int:
    """Carry out the check with the options of the command. Returns the exit code."""
    report = check(dataset, quick=options.quick)
    labels = _labels(dataset, options)
    page = None if options.page is None else _write_page(dataset, report, labels, Path(options.page))
    fixed = None
    if options.fix is not None:
        out = Path(options.fix)
        fixed = write_clean_manifest(report, dataset.photos, root=dataset.root, out=out)
    if options.json:
        more = {"labels": labels, "fix": fixed}
        document = report.to_dict() | {
            name: each.to_dict() for name, each in more.items() if each is not None
        }
        output.write_json(document | ({} if page is None else {"page": page}))
        return report.exit_code
    write_check(report)
    if labels is not None:
        _write_labels(labels)
    if page is not None:
        output.write_line(f"page            {printable(page)}")
    if fixed is not None:
        _write_fixed(fixed)
    return report.exit_code


def _labels(dataset: CheckedDataset, options: Namespace) -> LabelCheck | None:
    """The judgement of the run's image tower; None without a run, or where only headers are read."""
    if options.run_folder is None or options.quick:
        return None
    from mpfgvc.training.labels import check_labels

    return check_labels(options.run_folder, dataset.photos)


def _write_page(dataset: CheckedDataset, report: Report, labels: LabelCheck | None, out: Path) -> str:
    classes = dataset.photos.classes
    samples = {str(each.path): (classes[each.label], str(each.split)) for each in dataset.photos.samples}
    more: list[Finding] = []
    if labels is not None:
        more += [
            photo_finding("suspected label", _doubt(each), _paths(each.path, each.like), samples)
            for each in labels.suspects
        ]
        more += [
            photo_finding("like no other", _distance(each), _paths(each.path, each.nearest), samples)
            for each in labels.outliers
        ]
    write_text(out, doctor_page(report, dataset.root, samples, more))
    return str(out)


def _paths(path: str, other: str | None) -> tuple[str, ...]:
    return (path,) if other is None else (path, other)


def _write_labels(labels: LabelCheck) -> None:
    lines = [f"suspected label {each.path} ({_doubt(each)})" for each in labels.suspects[:SHOWN]]
    lines += _rest(len(labels.suspects), "suspected labels")
    lines += [f"like no other   {each.path} ({_distance(each)})" for each in labels.outliers[:SHOWN]]
    lines += _rest(len(labels.outliers), "photographs like no other")
    output.write("".join(f"{printable(line)}\n" for line in lines))
    for note in labels.notes:
        say(note)


def _rest(count: int, what: str) -> list[str]:
    return [f"and {count - SHOWN} more {what}: --page or --json"] if count > SHOWN else []


def _doubt(suspect: SuspectedLabel) -> str:
    given, guess = 100 * suspect.self_confidence, 100 * suspect.guess_confidence
    return f"called {suspect.label}, {given:.0f} %; rather {suspect.guess}, {guess:.0f} %"


def _distance(outlier: Outlier) -> str:
    return f"{outlier.label}; distance to the nearest ones {outlier.distance:.2f}"


def _write_fixed(fixed: CleanManifest) -> None:
    """What was written and what was left out, and how to train with it."""
    path, root = printable(fixed.path), printable(fixed.root)
    output.write_line(f"manifest        {path}: {fixed.kept} photographs, {len(fixed.left_out)} left out")
    for each in fixed.left_out[:SHOWN]:
        output.write_line(printable(f"  left out      {each.path}: {each.reason}"))
    for line in _rest(len(fixed.left_out), "are left out"):
        output.write_line(line.replace("--page or --json", "--json"))
    output.write_line(
        f"next            mpfgvc train --data.dataset manifest --data.manifest {path} --data.root {root}"
    )
