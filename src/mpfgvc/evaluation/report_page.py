"""The page of an evaluation: what its template shows, and the data that its script sorts and filters.

Everything has a limit, so that a page of 555 classes is as quick as one of 27: PAIRS confused pairs, WRONG
mistakes, and photographs in a number of bytes. What is left out is counted, and the tables beside the page
have all of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mpfgvc.evaluation.coverage import at_coverage
from mpfgvc.evaluation.findings import Findings, Statistics
from mpfgvc.evaluation.mistakes import ConfusedPair, Judged
from mpfgvc.evaluation.report_photos import SIDE, ReportPhotos
from mpfgvc.pages.album import Album
from mpfgvc.pages.line_chart import Curve, LineChart
from mpfgvc.pages.render import render
from mpfgvc.pages.scale import Scale

PAIRS, PHOTOS_OF_A_CLASS = 12, 2
"""Confused pairs that are shown with photographs, and how many of each class."""
WRONG = 2000
"""Mistakes on the page."""
SUSPECTS, SLOWEST = 24, 15
PAIR_BYTES, WRONG_BYTES, WRONG_SIDE = 200_000, 300_000, 110
"""Room for photographs, and the longer side of a mistake's in pixels."""
COVERAGES = (0.5, 0.8, 0.9, 0.95, 1.0)


@dataclass(frozen=True, kw_only=True)
class ShownPhoto:
    """A photograph in a pair; `address` is its `data:` address, if there was room for it."""

    address: str | None
    caption: str
    path: str


@dataclass(frozen=True, kw_only=True)
class ShownPair:
    """A confused pair with photographs of both classes."""

    pair: ConfusedPair
    names: tuple[str, str]
    photos: tuple[tuple[ShownPhoto, ...], tuple[ShownPhoto, ...]]


def report_page(findings: Findings, statistics: Statistics, photos: ReportPhotos | None) -> str:
    """The whole page. Raises ConfigError if jinja2 is not installed."""
    wrong_album = Album(most_bytes=WRONG_BYTES, side=WRONG_SIDE)
    pair_album = Album(most_bytes=PAIR_BYTES, side=SIDE)
    _fill(wrong_album, findings, photos)
    pairs = [_shown_pair(pair, findings, pair_album, photos) for pair in findings.pairs[:PAIRS]]
    evaluation = findings.evaluation
    return render(
        "evaluation/report_page.html.j2",
        "the page of a report",
        evaluation=evaluation,
        source=findings.source,
        intervals=statistics.intervals,
        classes=_class_rows(findings),
        pairs=pairs,
        pairs_left=len(findings.pairs) - len(pairs),
        has_photos=photos is not None,
        wrong=len(findings.wrong),
        wrong_left=max(0, len(findings.wrong) - WRONG),
        wrong_album=wrong_album,
        pair_album=pair_album,
        suspects_left=max(0, len(findings.suspects) - SUSPECTS),
        calibration=statistics.calibration,
        reliability=_reliability_chart(),
        coverage=_coverage_chart(statistics),
        covered=[(share, at_coverage(statistics.calibration.coverage, share)) for share in COVERAGES],
        learning=findings.learning,
        slowest=findings.learning.classes[:SLOWEST],
        left_out={
            name.replace("_", " "): count for name, count in evaluation.left_out.to_dict().items() if count
        },
        data=_data(findings, statistics, wrong_album),
    )


def _fill(album: Album, findings: Findings, photos: ReportPhotos | None) -> None:
    """The suspects first, as the surest mistakes are mostly among them, then the mistakes."""
    if photos is None:
        return
    for each in [*findings.suspects[:SUSPECTS], *findings.wrong[:WRONG]]:
        album.add(each.place, lambda path=each.path: photos.plain(path))  # type: ignore[misc]


def _shown_pair(
    pair: ConfusedPair, findings: Findings, album: Album, photos: ReportPhotos | None
) -> ShownPair:
    names = tuple(findings.evaluation.classes[label] for label in (pair.first, pair.second))
    sides = [
        tuple(_shown(each, findings, album, photos) for each in _of_pair(findings, true, guess))
        for true, guess in ((pair.first, pair.second), (pair.second, pair.first))
    ]
    return ShownPair(pair=pair, names=(names[0], names[1]), photos=(sides[0], sides[1]))


def _of_pair(findings: Findings, true: int, guess: int) -> list[Judged]:
    """Photographs of a class that were taken for the other, then those that were recognised, surest first."""
    own = sorted(
        (each for each in findings.judged if each.true == true and each.guess in (true, guess)),
        key=lambda each: (not each.is_wrong, -each.probability),
    )
    return own[:PHOTOS_OF_A_CLASS]


def _shown(each: Judged, findings: Findings, album: Album, photos: ReportPhotos | None) -> ShownPhoto:
    if photos is not None:
        album.add(each.place, lambda: photos.kept(each.path))
    name = findings.evaluation.classes[each.guess]
    said = f"taken for {name}" if each.is_wrong else "recognised"
    return ShownPhoto(
        address=album.addresses.get(each.place),
        caption=f"{said}, {100 * each.probability:.0f}\N{NO-BREAK SPACE}%",
        path=findings.shown[each.place],
    )


def _class_rows(findings: Findings) -> list[tuple[int, str, int, list[float | None], str]]:
    """Label, name, photographs, accuracy by each source in percent, and what it was most taken for."""
    evaluation, classes = findings.evaluation, findings.evaluation.classes
    columns = [metrics.per_class() for metrics in evaluation.sources.values()]
    taken: dict[int, str] = {}
    for mistake in evaluation.main.mistakes(len(evaluation.main.pairs)):
        taken.setdefault(mistake.true, f"{classes[mistake.predicted]} ({mistake.count})")
    return [
        (
            label,
            classes[label],
            total,
            [None if np.isnan(column[label]) else 100 * float(column[label]) for column in columns],
            taken.get(label, ""),
        )
        for label, total in enumerate(evaluation.main.totals().tolist())
    ]


def _reliability_chart() -> LineChart:
    says = "bars of accuracy over the probability of the answer; the dashed line is where they should end"
    return _chart("Reliability", "probability of the answer, %", (), Scale(0, 100), says)


def _coverage_chart(statistics: Statistics) -> LineChart:
    curve = statistics.calibration.coverage
    points = tuple((100 * each.coverage, 100 * each.accuracy) for each in curve)
    low = min((y for _, y in points), default=0.0)
    whole = points[-1][1] if points else 0.0
    says = f"it ends at {whole:.1f} % where every photograph is answered"
    scale = Scale(max(0.0, low - 5), 100)
    return _chart(
        "Accuracy of the answers given, %",
        "photographs answered, %",
        (Curve("accuracy", points),),
        scale,
        says,
    )


def _chart(title: str, x_name: str, curves: tuple[Curve, ...], y: Scale, says: str) -> LineChart:
    return LineChart(title=title, x_name=x_name, curves=curves, x=Scale(0, 100), y=y, says=says)


def _data(findings: Findings, statistics: Statistics, album: Album) -> dict[str, Any]:
    """What the script of the page reads."""
    evaluation, places = findings.evaluation, album.places()
    return {
        "classes": evaluation.classes,
        "totals": evaluation.main.totals().tolist(),
        "orders": statistics.orders,
        "cells": {
            source: [[pair.true, pair.predicted, pair.count] for pair in metrics.pairs]
            for source, metrics in evaluation.sources.items()
        },
        "wrong": list(_rows(findings, findings.wrong[:WRONG], places)),
        "suspects": list(_rows(findings, findings.suspects[:SUSPECTS], places)),
        "photos": list(album.addresses.values()),
    }


def _rows(
    findings: Findings, some: Sequence[Judged], places: dict[Any, int]
) -> Iterable[tuple[str, int, int, float, float, int, int]]:
    """Path, true class, guess, two probabilities in percent, rank, and the place of the photograph or -1."""
    for each in some:
        percents = (_percent(each.probability), _percent(each.truth))
        yield (
            findings.shown[each.place],
            each.true,
            each.guess,
            *percents,
            each.rank,
            places.get(each.place, -1),
        )


def _percent(share: float) -> float:
    return float(f"{100 * share:.3g}")
