"""`training.html` in a run folder: the curves of both stages and the early signs, from the rows of `metrics.csv`.

Neither the test split nor any photograph is looked at: `mpfgvc evaluate --report` shows the mistakes.
"""

from collections.abc import Sequence

from mpfgvc.pages import Curve, LineChart, Scale, render
from mpfgvc.run_folder import Row

_STAGES = {
    "features": "Start from features",
    "stage1": "Stage 1: tower, prompts and classifier",
    "stage2": "Stage 2: fusion",
}
_ACCURACIES = ("accuracy", "validation_vision", "validation_text", "validation_fusion")


def training_page(rows: Sequence[Row], signs: Sequence[str]) -> str:
    """The whole page."""
    stages = []
    for stage, title in _STAGES.items():
        epochs = [row for row in rows if row["stage"] == stage and int(row["epoch"]) > 0]
        if epochs:
            seconds = sum(float(row["seconds"]) for row in rows if row["stage"] == stage)
            stages.append((title, f"{seconds:.0f} seconds; in the last epoch {_end(epochs[-1])}", _charts(epochs)))
    return render("training/training_page.html.j2", stages=stages, signs=signs)


def _end(row: Row) -> str:
    return f"loss {float(row['loss']):.3f}, {100 * float(row['accuracy']):.1f} % of the training photographs right"


def _charts(epochs: Sequence[Row]) -> list[LineChart]:
    """Loss and accuracy; none if a single epoch leaves nothing to draw."""
    if len(epochs) == 1:
        return []
    loss = [Curve("training", tuple((float(row["epoch"]), float(row["loss"])) for row in epochs))]
    accuracy = [
        Curve(
            column.replace("accuracy", "training").replace("_", ", "),
            tuple((float(row["epoch"]), 100 * float(row[column])) for row in epochs),
        )
        for column in _ACCURACIES
        if column in epochs[0]
    ]
    top = max(y for _, y in loss[0].points)
    lowest = min(y for curve in accuracy for _, y in curve.points)
    return [
        _chart("Loss", loss, Scale(0.0, 1.05 * top or 1.0), digits=3),
        _chart("Accuracy, %", accuracy, Scale(max(0.0, lowest - 5), 100.0), digits=1),
    ]


def _chart(title: str, curves: Sequence[Curve], y: Scale, *, digits: int) -> LineChart:
    says = "; ".join(
        f"{curve.name} from {curve.points[0][1]:.{digits}f} to {curve.points[-1][1]:.{digits}f}" for curve in curves
    )
    x = Scale(curves[0].points[0][0], curves[0].points[-1][0], whole=True)
    return LineChart(title=title, x_name="epoch", curves=tuple(curves), x=x, y=y, says=says)
