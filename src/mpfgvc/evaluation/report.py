"""What `mpfgvc evaluate --report FOLDER` writes: tables as CSV in UTF-8, `report.json`, and a page.

    per_class.csv             the classes: photographs, and accuracy by each source
    confusion_<source>.csv    `true,predicted,count` for each pair that occurred, right answers included; a
                              whole matrix of 8,142 classes would have 66 million fields, nearly all of them 0
    wrong.csv                 every photograph that was taken for another class, the surest first
    pairs.csv                 the pairs of classes with a mistake between them, the most mistakes first
    reliability.csv, coverage.csv    what the two charts of the probabilities show
    report.json               the document of `evaluate --json`, with intervals and calibration
    index.html                all of it to look at, without any other file

Everything on the page has a limit, so that a page of 555 classes is as quick as one of 27. What is left out
is counted, and the tables beside the page have all of it. Needs scipy, the extra `compare`.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from mpfgvc.data.samples import Sample
from mpfgvc.errors import MpfgvcError
from mpfgvc.evaluation.findings import (
    ConfusedPair,
    Covered,
    Findings,
    Judged,
    accuracy_by_coverage,
    at_coverage,
    find,
    order_by_likeness,
)
from mpfgvc.evaluation.metrics import Evaluation, SourceMetrics
from mpfgvc.evaluation.statistics import accuracy_interval, error_with_interval, reliability
from mpfgvc.files import make_folder, write_text
from mpfgvc.inference.explain import explain
from mpfgvc.inference.picture import kept_view
from mpfgvc.inference.predictor import Predictor
from mpfgvc.pages import Album, Curve, LineChart, Scale, render

PAIRS, PHOTOS_OF_A_CLASS = 12, 2
"""Confused pairs that are shown with photographs, and how many of each class."""
WRONG, SUSPECTS = 2000, 24
"""Mistakes and doubtful labels on the page."""
PAIR_BYTES, PAIR_SIDE = 200_000, 150
WRONG_BYTES, WRONG_SIDE = 300_000, 110
"""Room for photographs, and the longer side of one in pixels."""
COVERAGES = (0.5, 0.8, 0.9, 0.95, 1.0)

Row = Sequence[object]


@dataclass(frozen=True, kw_only=True)
class ReportPhotos:
    """Draws photographs that were evaluated, which answers name by their path.

    `root` is the dataset's, from which the paths of a report start; None for pictures that are drawn.
    """

    predictor: Predictor
    samples: Sequence[Sample]
    root: Path | None = None

    def plain(self, path: str) -> Image.Image | None:
        """A photograph, upright and whole; None if it cannot be read any more."""
        try:
            return self._by_path[path].read(at_least=(PAIR_SIDE, PAIR_SIDE))
        except MpfgvcError:
            return None

    def kept(self, path: str) -> Image.Image | None:
        """A photograph as the tower sees it, dimmed where no patch was kept; None if it cannot be read."""
        sample = self._by_path[path]
        try:
            explanation = explain(self.predictor, sample.path if sample.has_file else sample.read(), top=1)
        except MpfgvcError:
            return None
        factor = PAIR_SIDE / max(explanation.image.size)
        width, height = (max(1, round(factor * length)) for length in explanation.image.size)
        return kept_view(explanation, (width, height))

    @cached_property
    def _by_path(self) -> dict[str, Sample]:
        return {str(sample.path): sample for sample in self.samples}


class ShownPhoto(NamedTuple):
    """A photograph in a pair; `address` is its `data:` address, if there was room for it."""

    address: str | None
    caption: str
    path: str


class ShownPair(NamedTuple):
    """A confused pair: name, mistakes and photographs of both classes."""

    pair: ConfusedPair
    sides: tuple[tuple[str, int, list[ShownPhoto]], ...]


def write_report(evaluation: Evaluation, folder: str | Path, *, photos: ReportPhotos | None = None) -> None:
    """Write everything into a folder, which is made if it is not there.

    `photos` draws the photographs, without which the page has none. Raises OutputError.
    """
    target, findings = (make_folder(Path(folder)), find(evaluation, root=None if photos is None else photos.root))
    confidence, right = evaluation.main.probability, evaluation.main.right
    curve = accuracy_by_coverage(confidence, right)
    bins = reliability(confidence, right)
    tables = {
        "per_class": _per_class(evaluation),
        **{f"confusion_{name}": _confusion(evaluation, metrics) for name, metrics in evaluation.sources.items()},
        "wrong": _wrong(findings),
        "pairs": _pairs(findings),
        "reliability": [("low", "high", "count", "confidence", "accuracy"), *map(_four_digits, bins)],
        "coverage": [("coverage", "accuracy", "threshold"), *map(_four_digits, curve)],
    }
    for name, rows in tables.items():
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        write_text(target / f"{name}.csv", text.getvalue())
    once = np.ones(evaluation.count, dtype=np.int64)
    intervals = {
        name: accuracy_interval(metrics.right.astype(np.int64), once) for name, metrics in evaluation.sources.items()
    }
    error = error_with_interval(confidence, right)
    document = evaluation.to_dict() | {
        "intervals": {name: vars(interval) for name, interval in intervals.items()},
        "calibration_error": {"value": error.value, **vars(error.interval)},
    }
    write_text(target / "report.json", json.dumps(document, indent=2) + "\n")
    page = _page(findings, photos, curve=curve, intervals=intervals, error=error, bins=bins)
    write_text(target / "index.html", page)


def _four_digits(values: Sequence[float]) -> Row:
    return [value if isinstance(value, int) else f"{value:.4f}" for value in values]


def _per_class(evaluation: Evaluation) -> Iterator[Row]:
    """Accuracies with four digits; empty for a class without photographs."""
    columns = [metrics.per_class() for metrics in evaluation.sources.values()]
    yield "class", "count", *evaluation.sources
    for label, total in enumerate(evaluation.main.totals()):
        yield (evaluation.classes[label], total, *(f"{column[label]:.4f}" if total else "" for column in columns))


def _confusion(evaluation: Evaluation, metrics: SourceMetrics) -> Iterator[Row]:
    yield "true", "predicted", "count"
    for true, predicted, count in metrics.pairs:
        yield evaluation.classes[true], evaluation.classes[predicted], count


def _wrong(findings: Findings) -> Iterator[Row]:
    classes = findings.evaluation.classes
    yield "path", "true", "guess", "probability", "truth_probability", "truth_rank"
    for photo in findings.wrong:
        probabilities = (f"{photo.probability:.6g}", f"{photo.truth:.6g}")
        yield photo.shown, classes[photo.true], classes[photo.guess], *probabilities, photo.rank


def _pairs(findings: Findings) -> Iterator[Row]:
    classes = findings.evaluation.classes
    yield "first", "second", "mistakes", "first_as_second", "second_as_first"
    for pair in findings.pairs:
        yield (classes[pair.first], classes[pair.second], pair.mistakes, pair.first_as_second, pair.second_as_first)


def _page(findings: Findings, photos: ReportPhotos | None, *, curve: Sequence[Covered], **statistics: Any) -> str:
    evaluation, suspects = findings.evaluation, findings.suspects[:SUSPECTS]
    wrong_album = Album(most_bytes=WRONG_BYTES, side=WRONG_SIDE)
    pair_album = Album(most_bytes=PAIR_BYTES, side=PAIR_SIDE)
    # The suspects first, as the surest mistakes are mostly among them.
    for photo in [*suspects, *findings.wrong[:WRONG]] if photos is not None else []:
        wrong_album.add(photo.number, lambda path=photo.path: photos.plain(path))  # type: ignore[misc, union-attr]
    pairs = [_shown_pair(pair, findings, pair_album, photos) for pair in findings.pairs[:PAIRS]]
    return render(
        "evaluation/report_page.html.j2",
        **statistics,
        evaluation=evaluation,
        source=evaluation.main_source,
        classes=_class_rows(evaluation),
        pairs=pairs,
        pairs_left=len(findings.pairs) - len(pairs),
        has_photos=photos is not None,
        wrong=len(findings.wrong),
        wrong_left=max(0, len(findings.wrong) - WRONG),
        wrong_album=wrong_album,
        pair_album=pair_album,
        suspects_left=max(0, len(findings.wrong) - SUSPECTS),
        reliability=_chart("Reliability", "probability of the answer, %", (), Scale(0, 100)),
        coverage=_coverage_chart(curve),
        covered=[(share, at_coverage(curve, share)) for share in COVERAGES],
        left_out={name.replace("_", " "): count for name, count in evaluation.left_out.to_dict().items() if count},
        data=_data(findings, suspects, wrong_album),
    )


def _shown_pair(pair: ConfusedPair, findings: Findings, album: Album, photos: ReportPhotos | None) -> ShownPair:
    """First photographs of a class that were taken for the other, then recognised ones, surest first."""
    classes, sides = findings.evaluation.classes, []
    directions = ((pair.first, pair.second, pair.first_as_second), (pair.second, pair.first, pair.second_as_first))
    for true, guess, count in directions:
        own = sorted(
            (photo for photo in findings.judged if photo.true == true and photo.guess in (true, guess)),
            key=lambda photo: (not photo.is_wrong, -photo.probability),
        )
        shown = []
        for photo in own[:PHOTOS_OF_A_CLASS]:
            said = f"taken for {classes[photo.guess]}" if photo.is_wrong else "recognised"
            caption = f"{said}, {100 * photo.probability:.0f}\N{NO-BREAK SPACE}%"
            draw = lambda path=photo.path: photos.kept(path)  # type: ignore[union-attr]  # noqa: E731
            address = None if photos is None else album.add(photo.number, draw)
            shown.append(ShownPhoto(address, caption, photo.shown))
        sides.append((classes[true], count, shown))
    return ShownPair(pair, tuple(sides))


def _class_rows(evaluation: Evaluation) -> list[tuple[int, str, int, list[float | None], str]]:
    """Label, name, photographs, accuracy by each source in percent, and what it was most taken for."""
    classes, columns = evaluation.classes, [metrics.per_class() for metrics in evaluation.sources.values()]
    taken: dict[int, str] = {}
    for true, predicted, count in evaluation.main.mistakes():
        taken.setdefault(true, f"{classes[predicted]} ({count})")
    return [
        (
            label,
            classes[label],
            total,
            [100 * float(column[label]) if total else None for column in columns],
            taken.get(label, ""),
        )
        for label, total in enumerate(evaluation.main.totals().tolist())
    ]


def _coverage_chart(curve: Sequence[Covered]) -> LineChart:
    points = tuple((100 * point.coverage, 100 * point.accuracy) for point in curve)
    low = min(y for _, y in points)
    says = f"it ends at {points[-1][1]:.1f} % where every photograph is answered"
    title = "Accuracy of the answers given, %"
    return _chart(title, "photographs answered, %", (Curve("accuracy", points),), Scale(max(0.0, low - 5), 100), says)


def _chart(title: str, x_name: str, curves: tuple[Curve, ...], y: Scale, says: str = "") -> LineChart:
    return LineChart(title=title, x_name=x_name, curves=curves, x=Scale(0, 100), y=y, says=says)


def _data(findings: Findings, suspects: Sequence[Judged], album: Album) -> Mapping[str, Any]:
    """What the script of the page reads."""
    evaluation, number = findings.evaluation, {key: row for row, key in enumerate(album.addresses)}

    def rows(some: Iterable[Judged]) -> list[Row]:
        """Path, true class, guess, two probabilities in percent, rank, number of the photograph or -1."""
        return [
            (
                *(photo.shown, photo.true, photo.guess, _percent(photo.probability), _percent(photo.truth)),
                *(photo.rank, number.get(photo.number, -1)),
            )
            for photo in some
        ]

    return {
        "classes": evaluation.classes,
        "totals": evaluation.main.totals().tolist(),
        "orders": {source: order_by_likeness(metrics) for source, metrics in evaluation.sources.items()},
        "cells": {source: metrics.pairs for source, metrics in evaluation.sources.items()},
        "wrong": rows(findings.wrong[:WRONG]),
        "suspects": rows(suspects),
        "photos": list(album.addresses.values()),
    }


def _percent(share: float) -> float:
    return float(f"{100 * share:.3g}")
