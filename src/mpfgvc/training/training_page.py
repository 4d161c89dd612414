"""`training.html` in a run folder: how the training went, and what the model gets wrong on validation.

Curves of both stages from the log, the early signs that were said, and, if there are validation photographs,
the worst classes and examples of mistakes. The test split is not looked at here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mpfgvc.evaluation.findings import Findings, find
from mpfgvc.evaluation.metrics import Evaluation
from mpfgvc.evaluation.report import ReportPhotos
from mpfgvc.pages import Album, Curve, LineChart, Scale, render
from mpfgvc.storage.metric_rows import Row

WORST, MISTAKES = 12, 24
"""Classes and photographs on the page."""
MOST_BYTES, SIDE = 150_000, 110
_STAGES = {
    "features": "Start from features",
    "stage1": "Stage 1: tower, prompts and classifier",
    "stage2": "Stage 2: fusion",
}


@dataclass(frozen=True, kw_only=True)
class Validation:
    """The model on the validation photographs, and what draws them."""

    evaluation: Evaluation
    photos: ReportPhotos


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """A wrong photograph; `address` is its `data:` address, if there was room for it."""

    address: str | None
    path: str
    truth: str
    guess: str


@dataclass(frozen=True, kw_only=True)
class StageCurves:
    """One stage: what it took, and its charts; none if a single epoch leaves nothing to draw."""

    title: str
    says: str
    charts: tuple[LineChart, ...]


def training_page(rows: Sequence[Row], signs: Sequence[str], validation: Validation | None) -> str:
    """The whole page."""
    album = Album(most_bytes=MOST_BYTES, side=SIDE)
    findings = None
    if validation is not None:
        findings = find(validation.evaluation, root=validation.photos.root)
    return render(
        "training/training_page.html.j2",
        stages=[_stage(name, rows) for name in _STAGES if _epochs(name, rows)],
        signs=signs,
        validation=None if validation is None else validation.evaluation,
        worst=[] if validation is None else _worst(validation.evaluation),
        mistakes=_mistakes(findings, validation, album),
        wrong=0 if findings is None else len(findings.wrong),
        unreadable=len(album.unreadable),
    )


def _epochs(stage: str, rows: Sequence[Row]) -> list[Row]:
    """The rows of the epochs of a stage; epoch 0 is the pass that embeds photographs."""
    return [row for row in rows if row["stage"] == stage and int(row["epoch"]) > 0]


def _stage(name: str, rows: Sequence[Row]) -> StageCurves:
    epochs = _epochs(name, rows)
    seconds = sum(float(row.get("seconds") or 0) for row in rows if row["stage"] == name)
    last = epochs[-1]
    count = "one epoch" if len(epochs) == 1 else f"{len(epochs)} epochs"
    end = f"loss {float(last['loss']):.3f}, {100 * float(last['accuracy']):.1f} % right"
    says = f"{count} in {_duration(seconds)}; in the last one, on training photographs: {end}"
    charts = (_loss_chart(epochs), _accuracy_chart(epochs)) if len(epochs) > 1 else ()
    return StageCurves(title=_STAGES[name], says=says, charts=charts)


def _loss_chart(epochs: Sequence[Row]) -> LineChart:
    points = _points(epochs, "loss")
    top = max(y for _, y in points)
    says = f"from {points[0][1]:.3f} to {points[-1][1]:.3f}"
    return _chart("Loss", (Curve("training", points),), Scale(0.0, 1.05 * top or 1.0), says)


def _accuracy_chart(epochs: Sequence[Row]) -> LineChart:
    curves = [Curve("training", _points(epochs, "accuracy", 100))]
    for column in ("validation_vision", "validation_text", "validation_fusion"):
        if points := _points(epochs, column, 100):
            curves.append(Curve(column.replace("_", ", "), points))
    values = [y for curve in curves for _, y in curve.points]
    says = "; ".join(
        f"{each.name} from {each.points[0][1]:.1f} to {each.points[-1][1]:.1f}" for each in curves
    )
    return _chart("Accuracy, %", tuple(curves), Scale(max(0.0, min(values) - 5), 100.0), says)


def _points(epochs: Sequence[Row], column: str, factor: float = 1) -> tuple[tuple[float, float], ...]:
    cells = [(int(row["epoch"]), row.get(column, "")) for row in epochs]
    return tuple((float(epoch), factor * float(cell)) for epoch, cell in cells if cell != "")


def _chart(title: str, curves: tuple[Curve, ...], y: Scale, says: str) -> LineChart:
    first, last = curves[0].points[0][0], curves[0].points[-1][0]
    return LineChart(title=title, x_name="epoch", curves=curves, x=Scale(first, last), y=y, says=says)


def _worst(evaluation: Evaluation) -> list[tuple[str, int, float, str]]:
    """Name, photographs, accuracy in percent, and what it was most taken for, the worst classes first."""
    accuracies, totals = evaluation.main.per_class(), evaluation.main.totals()
    taken: dict[int, str] = {}
    for mistake in evaluation.main.mistakes():
        taken.setdefault(mistake.true, f"{evaluation.classes[mistake.predicted]} ({mistake.photographs})")
    order = [label for label in np.argsort(accuracies, kind="stable").tolist() if accuracies[label] < 1]
    return [
        (evaluation.classes[label], int(totals[label]), 100 * float(accuracies[label]), taken.get(label, ""))
        for label in order[:WORST]
    ]


def _mistakes(findings: Findings | None, validation: Validation | None, album: Album) -> list[Mistake]:
    """The surest mistakes, as far as there is room for them."""
    if findings is None or validation is None:
        return []
    shown, classes, photos = [], findings.evaluation.classes, validation.photos
    for each in findings.wrong[:MISTAKES]:
        mistake = Mistake(
            address=album.add(each.number, lambda path=each.path: photos.plain(path)),  # type: ignore[misc]
            path=each.shown,
            truth=classes[each.true],
            guess=f"{classes[each.guess]} {100 * each.probability:.0f} %",
        )
        shown.append(mistake)
    return shown


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} seconds" if seconds < 120 else f"{seconds / 60:.1f} minutes"
