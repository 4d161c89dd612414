"""`training.html` in a run folder: how the training went, from the rows of `metrics.csv` and the early signs.

Curves of both stages and, if there are validation photographs, the classes that were worst after the last
epoch. Neither the test split nor any photograph is looked at: `mpfgvc evaluate --report` shows the mistakes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mpfgvc.pages import Curve, LineChart, Scale, render
from mpfgvc.run_folder import Row

WORST = 12
"""Classes on the page."""
_STAGES = {
    "features": "Start from features",
    "stage1": "Stage 1: tower, prompts and classifier",
    "stage2": "Stage 2: fusion",
}


@dataclass(frozen=True, kw_only=True)
class StageCurves:
    """One stage: what it took, and its charts; none if a single epoch leaves nothing to draw."""

    title: str
    says: str
    charts: tuple[LineChart, ...]


def training_page(rows: Sequence[Row], classes: Sequence[str], signs: Sequence[str]) -> str:
    """The whole page. The last row may have the accuracies of the classes, 0..1, as `class_accuracy`."""
    accuracies = [float(number) for number in str(rows[-1].get("class_accuracy", "")).split()] if rows else []
    known = [(100 * value, name) for name, value in zip(classes, accuracies, strict=False) if not math.isnan(value)]
    return render(
        "training/training_page.html.j2",
        stages=[_stage(name, rows) for name in _STAGES if _epochs(name, rows)],
        signs=signs,
        is_validated=bool(accuracies),
        worst=sorted(entry for entry in known if entry[0] < 100)[:WORST],
    )


def _epochs(stage: str, rows: Sequence[Row]) -> list[Row]:
    """The rows of the epochs of a stage; epoch 0 is the pass that embeds photographs."""
    return [row for row in rows if row["stage"] == stage and int(row["epoch"]) > 0]


def _stage(name: str, rows: Sequence[Row]) -> StageCurves:
    epochs = _epochs(name, rows)
    seconds = sum(float(row.get("seconds") or 0) for row in rows if row["stage"] == name)
    last = epochs[-1]
    count = "one epoch" if len(epochs) == 1 else f"{len(epochs)} epochs"
    time = f"{seconds:.0f} seconds" if seconds < 120 else f"{seconds / 60:.1f} minutes"
    end = f"loss {float(last['loss']):.3f}, {100 * float(last['accuracy']):.1f} % right"
    says = f"{count} in {time}; in the last one, on training photographs: {end}"
    charts = (_loss_chart(epochs), _accuracy_chart(epochs)) if len(epochs) > 1 else ()
    return StageCurves(title=_STAGES[name], says=says, charts=charts)


def _loss_chart(epochs: Sequence[Row]) -> LineChart:
    curve = Curve("training", _points(epochs, "loss"))
    top = max(y for _, y in curve.points)
    return _chart("Loss", (curve,), Scale(0.0, 1.05 * top or 1.0), digits=3)


def _accuracy_chart(epochs: Sequence[Row]) -> LineChart:
    curves = [Curve("training", _points(epochs, "accuracy", 100))]
    for column in ("validation_vision", "validation_text", "validation_fusion"):
        if points := _points(epochs, column, 100):
            curves.append(Curve(column.replace("_", ", "), points))
    lowest = min(y for curve in curves for _, y in curve.points)
    return _chart("Accuracy, %", tuple(curves), Scale(max(0.0, lowest - 5), 100.0), digits=1)


def _points(epochs: Sequence[Row], column: str, factor: float = 1) -> tuple[tuple[float, float], ...]:
    return tuple((float(row["epoch"]), factor * float(row[column])) for row in epochs if row.get(column, "") != "")


def _chart(title: str, curves: tuple[Curve, ...], y: Scale, *, digits: int) -> LineChart:
    points = curves[0].points
    says = "; ".join(
        f"{curve.name} from {curve.points[0][1]:.{digits}f} to {curve.points[-1][1]:.{digits}f}" for curve in curves
    )
    x = Scale(points[0][0], points[-1][0])
    return LineChart(title=title, x_name="epoch", curves=curves, x=x, y=y, says=says)
