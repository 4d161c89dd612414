"""What `mpfgvc evaluate --report FOLDER` writes: tables as CSV in UTF-8, `report.json`, and a page.

    per_class.csv             the classes: photographs, and accuracy by each source
    confusion_<source>.csv    `true,predicted,count` for each pair that occurred, right answers included
    wrong.csv                 every photograph that was taken for another class, the surest first
    pairs.csv                 the pairs of classes with a mistake between them, the most mistakes first
    reliability.csv, coverage.csv    what the two charts of the probabilities show
    report.json               the document of `evaluate --json`, with intervals and calibration
    index.html                all of it to look at, without any other file

Mistakes, pairs and probabilities are those of the source that the model answers with. Everything on the page
has a limit, so that a page of 555 classes is as quick as one of 27; what is left out is counted, and the
tables have all of it. Needs scipy, the extra `compare`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mpfgvc.data.samples import Sample
from mpfgvc.errors import MpfgvcError, csv_text
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
PAIR_BYTES, WRONG_BYTES = 800_000, 1_500_000
"""Room for photographs."""
SIDE = 320
"""Longer side of a photograph in pixels: what it has when it is enlarged."""
COVERAGES = (0.5, 0.8, 0.9, 0.95, 1.0)
POINTS = 200
"""Points of the curve of coverage at most."""
MOST_ORDERED = 1500
"""Classes that are ordered by likeness; the tree needs their square."""


class Judged(NamedTuple):
    """One photograph and what was said about it; classes by their index, probabilities in 0..1."""

    number: int
    """In the order of the answers."""
    path: str
    shown: str
    """The path from the root of the dataset."""
    true: int
    guess: int
    probability: float
    """Of the guess."""
    truth: float
    """Of the right class."""
    rank: int
    """Of the right class; 1 is the best."""


class ConfusedPair(NamedTuple):
    """Two classes that were taken for each other."""

    first: int
    second: int
    mistakes: int
    """In both directions."""
    first_as_second: int
    second_as_first: int


class Covered(NamedTuple):
    """What is answered if the probability must be at least `threshold`; all three are in 0..1."""

    coverage: float
    accuracy: float
    threshold: float


class ShownPhoto(NamedTuple):
    """A photograph in a pair; `address` is its `data:` address, if there was room for it."""

    address: str | None
    caption: str
    path: str


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
            return self._by_path[path].read(at_least=(SIDE, SIDE))
        except MpfgvcError:
            return None

    def kept(self, path: str) -> Image.Image | None:
        """A photograph as the tower sees it, dimmed where no patch was kept; None if it cannot be read."""
        sample = self._by_path[path]
        try:
            explanation = explain(self.predictor, sample.path if sample.has_file else sample.read(), top=1)
        except MpfgvcError:
            return None
        factor = SIDE / max(explanation.image.size)
        width, height = (max(1, round(factor * length)) for length in explanation.image.size)
        return kept_view(explanation, (width, height))

    @cached_property
    def _by_path(self) -> dict[str, Sample]:
        return {str(sample.path): sample for sample in self.samples}


def write_report(
    evaluation: Evaluation, folder: str | Path, *, photos: ReportPhotos | None = None, run: str = "", dataset: str = ""
) -> None:
    """Write everything into a folder, which is made if it is not there.

    `photos` draws the photographs, without which the page has none. `run` and `dataset` are named on the page.
    Raises OutputError.
    """
    target, main, sources = make_folder(Path(folder)), evaluation.main, evaluation.sources
    columns = (main.labels, main.guesses, main.probability, main.truth, main.ranks)
    root = None if photos is None else photos.root
    rows = zip(evaluation.paths, evaluation.below(root).paths, *(column.tolist() for column in columns), strict=True)
    judged = [Judged(number, *row) for number, row in enumerate(rows)]
    wrong = sorted((photo for photo in judged if photo.true != photo.guess), key=lambda photo: -photo.probability)
    pairs, bins = confused_pairs(main), reliability(main.probability, main.right)
    curve = accuracy_by_coverage(main.probability, main.right)
    tables = _tables(evaluation, wrong, pairs) | {
        "reliability": [("low", "high", "count", "confidence", "accuracy"), *map(_four_digits, bins)],
        "coverage": [("coverage", "accuracy", "threshold"), *map(_four_digits, curve)],
    }
    for name, table in tables.items():
        write_text(target / f"{name}.csv", csv_text(table))
    once = np.ones(evaluation.count, dtype=np.int64)
    intervals = {source: accuracy_interval(metrics.right.astype(np.int64), once) for source, metrics in sources.items()}
    error = error_with_interval(main.probability, main.right)
    about = {"run": run, "dataset": dataset, "date": datetime.now().astimezone().date().isoformat()}
    document = evaluation.to_dict() | {
        **about,
        "intervals": {source: vars(interval) for source, interval in intervals.items()},
        "calibration_error": {"value": error.value, **vars(error.interval)},
    }
    write_text(target / "report.json", json.dumps(document, indent=2) + "\n")
    suspects = sorted(wrong, key=lambda photo: (photo.truth, -photo.probability))[:SUSPECTS]
    wrong_album, pair_album = Album(most_bytes=WRONG_BYTES, side=SIDE), Album(most_bytes=PAIR_BYTES, side=SIDE)
    # The suspects first, as the surest mistakes are mostly among them.
    for photo in [*suspects, *wrong[:WRONG]] if photos is not None else []:
        wrong_album.add(photo.number, lambda path=photo.path: photos.plain(path))  # type: ignore[misc, union-attr]
    page = render(
        "evaluation/report_page.html.j2",
        about=about,
        evaluation=evaluation,
        source=evaluation.main_source,
        intervals=intervals,
        classes=_class_rows(evaluation),
        pairs=[_shown_pair(pair, evaluation, judged, pair_album, photos) for pair in pairs[:PAIRS]],
        pairs_left=max(0, len(pairs) - PAIRS),
        has_photos=photos is not None,
        wrong=len(wrong),
        wrong_left=max(0, len(wrong) - WRONG),
        wrong_album=wrong_album,
        pair_album=pair_album,
        suspects_left=max(0, len(wrong) - SUSPECTS),
        error=error,
        bins=bins,
        reliability=LineChart(title="Reliability", x_name="probability of the answer, %", y=Scale(0, 100)),
        coverage=_coverage_chart(curve),
        covered=[(share, next(point for point in curve if point.coverage >= share)) for share in COVERAGES],
        left_out={name.replace("_", " "): count for name, count in evaluation.left_out.to_dict().items() if count},
        data=_data(evaluation, wrong[:WRONG], suspects, wrong_album),
    )
    write_text(target / "index.html", page)


def _tables(
    evaluation: Evaluation, wrong: Sequence[Judged], pairs: Sequence[ConfusedPair]
) -> dict[str, list[Sequence[object]]]:
    """The rows of the tables by their names; accuracies with four digits, none for a class without photographs."""
    classes, sources = evaluation.classes, evaluation.sources
    columns = [metrics.per_class() for metrics in sources.values()]
    tables: dict[str, list[Sequence[object]]] = {"per_class": [("class", "count", *sources)]}
    for label, total in enumerate(evaluation.main.totals()):
        accuracies = (f"{column[label]:.4f}" if total else "" for column in columns)
        tables["per_class"].append((classes[label], total, *accuracies))
    for source, metrics in sources.items():
        cells = ((classes[true], classes[predicted], count) for true, predicted, count in metrics.pairs)
        tables[f"confusion_{source}"] = [("true", "predicted", "count"), *cells]
    tables["wrong"] = [("path", "true", "guess", "probability", "truth_probability", "truth_rank")]
    for _, _, shown, true, guess, probability, truth, rank in wrong:
        tables["wrong"].append((shown, classes[true], classes[guess], f"{probability:.6g}", f"{truth:.6g}", rank))
    tables["pairs"] = [("first", "second", "mistakes", "first_as_second", "second_as_first")]
    tables["pairs"] += [(classes[pair.first], classes[pair.second], *pair[2:]) for pair in pairs]
    return tables


def confused_pairs(metrics: SourceMetrics) -> list[ConfusedPair]:
    """All pairs of classes with a mistake between them, the most mistakes first."""
    counts = {(true, guess): count for true, guess, count in metrics.pairs if true != guess}
    both = {(min(pair), max(pair)) for pair in counts}
    found = ((a, b, counts.get((a, b), 0), counts.get((b, a), 0)) for a, b in both)
    return sorted(
        (ConfusedPair(a, b, there + back, there, back) for a, b, there, back in found),
        key=lambda pair: (-pair.mistakes, pair),
    )


def accuracy_by_coverage(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> list[Covered]:
    """How right a model is if it answers only where it is sure, from the surest answer to all of them.

    `confidence` is the probability of the answer. At a coverage c the answer is given for the share c of the
    photographs, and the accuracy is that of the answers given. Photographs of equal probability come and go
    together.
    """
    order = np.argsort(-confidence, kind="stable")
    sure, hits = confidence[order], np.cumsum(right[order])
    last_of_equal = np.append(np.flatnonzero(np.diff(sure)), len(sure) - 1)
    picked = last_of_equal[np.unique(np.linspace(0, len(last_of_equal) - 1, POINTS).round().astype(int))]
    return [
        Covered((last + 1) / len(sure), float(hits[last] / (last + 1)), float(sure[last])) for last in picked.tolist()
    ]


def order_by_likeness(metrics: SourceMetrics) -> list[int]:
    """All classes in an order in which those that are taken for each other stand side by side.

    The likeness of two classes is the mean of two shares: how much of the one was taken for the other, and
    the reverse. Classes that were confused are clustered by it (average linkage) and laid out so that
    neighbours are as alike as the tree allows (Bar-Joseph et al., 2001). Classes without a mistake follow
    in their order; with more than MOST_ORDERED confused ones all do.
    """
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    wrong = metrics.mistakes()
    confused = sorted({label for pair in wrong for label in (pair.true, pair.predicted)})
    others = [label for label in range(metrics.classes) if label not in set(confused)]
    if not 2 < len(confused) <= MOST_ORDERED:
        return [*confused, *others]
    row, totals = {label: row for row, label in enumerate(confused)}, np.maximum(metrics.totals(), 1)
    shares = np.zeros((len(confused), len(confused)))
    for true, guess, count in wrong:
        shares[row[true], row[guess]] = count / totals[true]
    distance = 1 - (shares + shares.T) / 2
    np.fill_diagonal(distance, 0)
    leaves = leaves_list(linkage(squareform(distance, checks=False), "average", optimal_ordering=True))
    return [*(confused[leaf] for leaf in leaves), *others]


def _four_digits(values: Sequence[float]) -> list[object]:
    return [value if isinstance(value, int) else f"{value:.4f}" for value in values]


def _shown_pair(
    pair: ConfusedPair, evaluation: Evaluation, judged: Sequence[Judged], album: Album, photos: ReportPhotos | None
) -> tuple[ConfusedPair, str, list[tuple[str, int, list[ShownPhoto]]]]:
    """A pair, where its classes meet in the taxonomy, and for both of them name, mistakes and photographs.

    First photographs of a class that were taken for the other, then recognised ones, surest first.
    """
    classes, taxonomy, meet, sides = evaluation.classes, evaluation.taxonomy, "", []
    if taxonomy is not None:
        distance = taxonomy.distance(pair.first, pair.second)
        meet = f"same {taxonomy.names[distance]}" if distance < len(taxonomy.names) else "far apart in the taxonomy"
    directions = ((pair.first, pair.second, pair.first_as_second), (pair.second, pair.first, pair.second_as_first))
    for true, guess, count in directions:
        own = sorted(
            (photo for photo in judged if photo.true == true and photo.guess in (true, guess)),
            key=lambda photo: (photo.guess == true, -photo.probability),
        )
        shown = []
        for photo in own[:PHOTOS_OF_A_CLASS]:
            said = "recognised" if photo.guess == true else f"taken for {classes[photo.guess]}"
            caption = f"{said}, {100 * photo.probability:.0f}\N{NO-BREAK SPACE}%"
            draw = lambda path=photo.path: photos.kept(path)  # type: ignore[union-attr]  # noqa: E731
            address = None if photos is None else album.add(photo.number, draw)
            shown.append(ShownPhoto(address, caption, photo.shown))
        sides.append((classes[true], count, shown))
    return pair, meet, sides


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
    return LineChart(
        title="Accuracy of the answers given, %",
        x_name="photographs answered, %",
        curves=(Curve("accuracy", points),),
        y=Scale(max(0.0, min(y for _, y in points) - 5), 100),
        says=f"it ends at {points[-1][1]:.1f} % where every photograph is answered",
    )


def _data(
    evaluation: Evaluation, wrong: Sequence[Judged], suspects: Sequence[Judged], album: Album
) -> Mapping[str, Any]:
    """What the script of the page reads."""
    number = {key: row for row, key in enumerate(album.addresses)}

    def rows(some: Iterable[Judged]) -> list[Sequence[object]]:
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
        "wrong": rows(wrong),
        "suspects": rows(suspects),
        "photos": list(album.addresses.values()),
    }


def _percent(share: float) -> float:
    return float(f"{100 * share:.3g}")
