"""Pictures of explanations: the photograph, and beside it what the model made of its patches.

Frames leave the plumage to be seen. Blue and orange can be told apart by everyone, and a frame has a + or a - as well.
Matplotlib lays out and writes; it is imported when the first picture is drawn.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from mpfgvc.config import Selection
from mpfgvc.errors import printable
from mpfgvc.files import write_bytes

if TYPE_CHECKING:
    from mpfgvc.inference.explain import Explanation

    TitledExplanation = tuple[str, Explanation]
    """A title, such as the path of the photograph, and its explanation."""

CHOSEN_BY: dict[Selection, str] = {
    "attention": "what chose them: the attention of the class token",
    "rollout": "what chose them: attention rollout",
    "random": "what chose them: chance",
}
FONTS = ("Noto Sans CJK SC", "Noto Sans CJK JP", "PingFang SC", "Hiragino Sans", "Microsoft YaHei", "Yu Gothic")
"""Taken where they are installed for letters that matplotlib's own font lacks."""
FOR, AGAINST = (41, 110, 255), (232, 110, 0)
_WIDTH, _MARGIN, _DPI = 13.5, 0.12, 100  # inches, but the last
_SHARP = 960  # pixels of the longer side of a view
_LEAST = 0.05  # of the largest change: what is below has no frame


class Cell(NamedTuple):
    """A cell of a sheet: pictures beside each other, a heading and a caption."""

    pictures: Sequence[Image.Image]
    heading: str
    caption: str


def draw(explanations: Sequence[TitledExplanation]) -> Image.Image:
    """One picture: for each explanation its title, its guesses, three views and the nearest photographs."""
    with _style():
        heights = [_height(explanation) for _, explanation in explanations]
        figure = _figure(_WIDTH, sum(heights))
        rows = figure.subfigures(len(explanations), 1, height_ratios=heights, squeeze=False)[:, 0]
        for row, (title, explanation) in zip(rows, explanations, strict=True):
            _draw_row(row, title, explanation)
        return _rendered(figure)


def contact_sheet(explanations: Sequence[TitledExplanation]) -> Image.Image:
    """Two photographs in a line, with what their patches say beside them and the best guess above."""
    cells = [
        Cell(
            pictures=(why.image, evidence_view(why)),
            heading=shortened(_guesses(why, 1), 56),
            caption=f"+ {shortened(why.answer, 52)}\n− {shortened(why.against, 52)}\n{shortened(title, 60)}",
        )
        for title, why in explanations
    ]
    return sheet(cells, columns=2)


def sheet(cells: Sequence[Cell], *, columns: int) -> Image.Image:
    """Cells in lines of so many."""
    with _style():
        beside = max(len(cell.pictures) for cell in cells)
        rows = -(-len(cells) // columns)
        side = _WIDTH / columns / beside
        shape = min(2.0, max(picture.height / picture.width for cell in cells for picture in cell.pictures))
        figure = _figure(_WIDTH, rows * (side * shape + 0.85))
        parts = figure.subfigures(rows, columns, squeeze=False).flat
        for part, cell in zip(parts, cells, strict=False):
            part.suptitle(cell.heading, fontsize=9.5)
            part.supxlabel(cell.caption, fontsize=8)
            for axes, picture in zip(part.subplots(1, beside, squeeze=False)[0], cell.pictures, strict=False):
                _show(axes, picture)
        return _rendered(figure)


def save_picture(picture: Image.Image, file: str | Path) -> None:
    """Write a picture as PNG. Raises OutputError."""
    content = io.BytesIO()
    picture.save(content, format="PNG")
    write_bytes(Path(file), content.getvalue())


def kept_view(explanation: Explanation, size: tuple[int, int]) -> Image.Image:
    """The kept patches as they are, the others dimmed; `size` is (width, height) in pixels."""
    pixels = np.asarray(explanation.image.resize(size, Image.Resampling.BICUBIC), dtype=np.float32)
    mask = Image.fromarray(explanation.kept_mask.astype(np.uint8)).resize(size, Image.Resampling.NEAREST)
    kept = np.asarray(mask)[..., None]
    return Image.fromarray(np.where(kept, pixels, 90 + 0.22 * pixels).astype(np.uint8))


def evidence_view(explanation: Explanation) -> Image.Image:
    """The kept patches, in blue frames with + where they speak for the answer, in orange with - against it."""
    factor = max(1, round(_SHARP / max(explanation.image.size)))
    width, height = (factor * length for length in explanation.image.size)
    picture = kept_view(explanation, (width, height))
    pen = ImageDraw.Draw(picture)
    rows, columns = explanation.attention.shape
    down, across = height / rows, width / columns
    most = max(*map(abs, explanation.change), 1e-12)
    for (row, column), change in zip(explanation.kept, explanation.change, strict=True):
        if abs(change) > _LEAST * most:
            box = (column * across, row * down, (column + 1) * across - 1, (row + 1) * down - 1)
            _frame(pen, box, (abs(change) / most) ** 0.5, FOR if change > 0 else AGAINST, plus=change > 0)
    return picture


def shortened(text: str, letters: int) -> str:
    """Printable text of at most so many letters, cut in the middle: names often begin or end alike."""
    plain = printable(text).encode("utf-8", "backslashreplace").decode()
    end = letters * 3 // 5
    return plain if len(plain) <= letters else f"{plain[: letters - end - 1]}…{plain[-end:]}"


def _frame(
    pen: ImageDraw.ImageDraw, box: tuple[float, float, float, float], strength: float, colour: Any, *, plus: bool
) -> None:
    """A frame and a sign in its corner; both grow with `strength`, 0..1."""
    left, top, right, bottom = box
    cell = min(right - left, bottom - top)
    line = max(1, round(cell * (0.03 + 0.05 * strength)))
    pen.rectangle(box, outline=(255, 255, 255), width=line + 2)
    pen.rectangle((left + 1, top + 1, right - 1, bottom - 1), outline=colour, width=line)
    side = cell * (0.2 + 0.12 * strength)
    pen.rectangle((left + 1, top + 1, left + side, top + side), fill=colour)
    middle, thick = side / 2 + 0.5, max(1, round(side / 7))
    across = (left + 0.25 * side, top + middle, left + 0.8 * side, top + middle)
    pen.line(across, fill=(255, 255, 255), width=thick)
    if plus:
        pen.line((left + middle, top + 0.25 * side, left + middle, top + 0.8 * side), fill=(255, 255, 255), width=thick)


def _height(explanation: Explanation) -> float:
    """Inches of an explanation's part of the picture."""
    shape = explanation.image.height / explanation.image.width
    nearest = sum(1.9 for photos in explanation.nearest.values() if photos)
    return max(1.0, min(_WIDTH / 3 * shape, 9.0)) + 1.45 + nearest


def _draw_row(part: Any, title: str, explanation: Explanation) -> None:
    """The title, the guesses and the views; below them a row of photographs for each class that has some."""
    shown = {label: photos for label, photos in explanation.nearest.items() if photos}
    views = _height(explanation) - 1.9 * len(shown)
    bands = part.subfigures(1 + len(shown), 1, height_ratios=[views, *[1.9] * len(shown)], squeeze=False)[:, 0]
    bands[0].suptitle(f"{shortened(title, 120)}\n", x=0.012, ha="left", fontsize=12, weight="bold")
    guesses = shortened(_guesses(explanation, len(explanation.guesses)), 140)
    bands[0].text(0.012, 1 - 0.36 / views, guesses, fontsize=10.5, color="0.25", va="top")
    plain, evidence, chosen = bands[0].subplots(1, 3)
    _show(plain, explanation.image, "what the tower sees")
    what = f"the {len(explanation.kept)} kept patches"
    names = f"+ for {shortened(explanation.answer, 52)}\n− for {shortened(explanation.against, 52)}"
    _show(evidence, evidence_view(explanation), f"{what}\n{names}")
    _show(chosen, explanation.image.convert("L"), CHOSEN_BY[explanation.selection], cmap="gray", vmax=330)
    extent = (*chosen.get_xlim(), *chosen.get_ylim())
    chosen.imshow(explanation.attention, extent=extent, cmap="inferno", alpha=0.62, interpolation="bicubic")
    for band, (label, photos) in zip(bands[1:], shown.items(), strict=True):
        heading = f"the nearest training photographs of {shortened(label, 60)}"
        band.suptitle(heading, x=0.012, ha="left", fontsize=10.5, color="0.25")
        for axes, photo in zip(band.subplots(1, max(6, len(photos))), photos, strict=False):
            says = f"{photo.found.similarity:.2f} " if photo.image else "not there: "
            name = says + shortened(Path(photo.found.path).name, 24)
            _show(axes, photo.image or Image.new("RGB", (8, 8), "#d0d0d0"), name)
        for axes in band.axes[len(photos) :]:
            axes.set_axis_off()


def _show(axes: Any, image: Image.Image, caption: str = "", **options: Any) -> None:
    axes.imshow(np.asarray(image), extent=(0, image.width, image.height, 0), interpolation="antialiased", **options)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_xlabel(caption)
    for side in axes.spines.values():
        side.set_visible(False)


def _guesses(explanation: Explanation, count: int) -> str:
    return "   ".join(f"{guess.label} {100 * guess.probability:.0f} %" for guess in explanation.guesses[:count])


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    figure: Any = Figure(figsize=(width, height), dpi=_DPI, facecolor="white", layout="constrained")
    figure.get_layout_engine().set(w_pad=_MARGIN / 2, h_pad=_MARGIN / 2, wspace=0.01, hspace=0.01)
    return figure


def _rendered(figure: Any) -> Image.Image:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())


@contextmanager
def _style() -> Iterator[None]:
    """Class names are text, not formulas; letters that no font has are drawn as boxes without a warning."""
    import matplotlib
    from matplotlib.font_manager import fontManager

    there = {font.name for font in fontManager.ttflist}
    families = ["DejaVu Sans", *(font for font in FONTS if font in there)]
    settings: Any = {"font.family": families, "text.parse_math": False, "axes.labelsize": 9}
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
