"""Pictures of explanations: the photograph with what the model made of each of its patches.

Blue and orange can be told apart by everyone, and patches say + or - as well. Matplotlib lays out and writes;
it is imported when the first picture is drawn.
"""

from __future__ import annotations

import io
import unicodedata
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mpfgvc.config import Selection
from mpfgvc.errors import printable
from mpfgvc.files import write_bytes
from mpfgvc.inference.explain import Explanation

TitledExplanation = tuple[str, Explanation]
"""A title, such as the path of the photograph, and its explanation."""
CHOSEN_BY: dict[Selection, str] = {
    "attention": "attention of the class token",
    "rollout": "attention rollout",
    "random": "chance, which chose the patches",
}
"""The caption of the third view."""
SHEET_COLUMNS = 5
FONTS = ("Noto Sans CJK SC", "Noto Sans CJK JP", "PingFang SC", "Hiragino Sans", "Microsoft YaHei", "Yu Gothic")
"""Taken where they are installed for letters that matplotlib's own font lacks."""
_WIDTH, _MARGIN, _DPI = 10.0, 0.12, 100  # inches, but the last
_SIGN_LEAST = 0.15  # of the largest change: what is below has no sign
_TITLE_LETTERS, _GUESS_LETTERS = 95, 110  # that fit into _WIDTH at their size


def draw(explanations: Sequence[TitledExplanation]) -> Image.Image:
    """One picture: for each explanation its title, its guesses, four views and the nearest photographs."""
    with _style():
        heights = [_height(explanation) for _, explanation in explanations]
        figure = _figure(_WIDTH, sum(heights))
        rows = figure.subfigures(len(explanations), 1, height_ratios=heights, squeeze=False)[:, 0]
        for row, (title, explanation) in zip(rows, explanations, strict=True):
            _draw_row(row, title, explanation)
        return _rendered(figure)


def contact_sheet(explanations: Sequence[TitledExplanation]) -> Image.Image:
    """The evidence in each photograph with its best guess, `SHEET_COLUMNS` beside each other."""
    with _style():
        columns = min(SHEET_COLUMNS, len(explanations))
        rows = -(-len(explanations) // columns)
        side = _WIDTH / SHEET_COLUMNS
        shape = max(each.image.height / each.image.width for _, each in explanations)
        figure = _figure(side * columns, rows * (side * shape + 0.75))
        cells = list(figure.subplots(rows, columns, squeeze=False).flat)
        for cell, (title, each) in zip(cells, explanations, strict=False):
            _show_evidence(cell, each)
            cell.set_title(_cut(_guesses(each, 1), 28), fontsize=8.5)
            caption = f"+ {_cut(each.answer, 26)}\n− {_cut(each.against, 26)}\n{_cut_start(title, 28)}"
            cell.set_xlabel(caption, fontsize=7)
        for cell in cells[len(explanations) :]:
            cell.set_axis_off()
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


def _height(explanation: Explanation) -> float:
    """Inches of an explanation's part of the picture."""
    shape = explanation.image.height / explanation.image.width
    nearest = sum(1.55 for photos in explanation.nearest.values() if photos)
    return min(2.45 * shape, 8.0) + 1.25 + nearest


def _draw_row(part: Any, title: str, explanation: Explanation) -> None:
    """The title, the guesses and the views; below them a row of photographs for each class that has some."""
    shown = {label: photos for label, photos in explanation.nearest.items() if photos}
    views = _height(explanation) - 1.55 * len(shown)
    bands = part.subfigures(1 + len(shown), 1, height_ratios=[views, *[1.55] * len(shown)], squeeze=False)[:, 0]
    heading = f"{_cut_start(title, _TITLE_LETTERS)}\n"
    bands[0].suptitle(heading, x=0.012, ha="left", fontsize=11, weight="bold")
    guesses = _cut(_guesses(explanation, len(explanation.guesses)), _GUESS_LETTERS)
    bands[0].text(0.012, 1 - 0.36 / views, guesses, fontsize=9.5, color="0.25", va="top")
    _draw_views(bands[0].subplots(1, 4), explanation)
    for band, (label, photos) in zip(bands[1:], shown.items(), strict=True):
        title = f"the nearest training photographs of {_cut(label, 60)}"
        band.suptitle(title, x=0.012, ha="left", fontsize=9.5, color="0.25")
        for axes, photo in zip(band.subplots(1, max(6, len(photos))), photos, strict=False):
            _show(axes, photo.image or Image.new("RGB", (8, 8), "#d0d0d0"))
            says = f"{photo.found.similarity:.2f} " if photo.image else "not there: "
            axes.set_xlabel(says + _cut_start(Path(photo.found.path).name, 18), fontsize=7.5)
        for axes in band.axes[len(photos) :]:
            axes.set_axis_off()


def _draw_views(views: Any, explanation: Explanation) -> None:
    plain, kept, chosen, evidence = views
    _show(plain, explanation.image)
    plain.set_xlabel("what the tower sees")
    width, height = explanation.image.size
    factor = max(1, round(480 / max(width, height)))
    _show(kept, kept_view(explanation, (factor * width, factor * height)))
    kept.set_xlabel(f"the {len(explanation.kept)} kept patches")
    _show(chosen, explanation.image.convert("L"), cmap="gray", vmax=330)
    _over(chosen, explanation, explanation.attention, cmap="inferno", alpha=0.62, interpolation="bicubic")
    chosen.set_xlabel(CHOSEN_BY[explanation.selection])
    _show_evidence(evidence, explanation)
    evidence.set_xlabel(f"+ for {_cut(explanation.answer, 32)}\n− for {_cut(explanation.against, 32)}")


def _show_evidence(axes: Any, explanation: Explanation) -> None:
    """The kept patches in blue where they speak for the answer, in orange where they speak against it."""
    width, height = explanation.image.size
    factor = max(1, round(480 / max(width, height)))
    _show(axes, kept_view(explanation, (factor * width, factor * height)))
    changes = explanation.change_map
    strength = changes / max(float(np.abs(changes).max()), 1e-12)
    colours = np.zeros((*strength.shape, 4))
    colours[..., :3] = np.where((strength > 0)[..., None], (0.16, 0.43, 1.0), (1.0, 0.55, 0.0))
    colours[..., 3] = 0.75 * np.sqrt(np.abs(strength))
    _over(axes, explanation, colours)
    rows, columns = strength.shape
    size = min(11.0, 90 / max(rows, columns))
    for row, column in zip(*np.nonzero(np.abs(strength) > _SIGN_LEAST), strict=True):
        sign = "+" if strength[row, column] > 0 else "−"
        x, y = (column + 0.5) / columns, 1 - (row + 0.5) / rows
        axes.text(x, y, sign, color="white", size=size, ha="center", va="center", transform=axes.transAxes)


def _show(axes: Any, image: Image.Image, **options: Any) -> None:
    axes.imshow(np.asarray(image), extent=(0, image.width, image.height, 0), interpolation="bicubic", **options)
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_visible(False)


def _over(axes: Any, explanation: Explanation, values: np.ndarray, **options: Any) -> None:
    """One value or colour for each patch, over what the axes show already."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    axes.imshow(values, extent=(left, right, bottom, top), **{"interpolation": "nearest", **options})


def _guesses(explanation: Explanation, count: int) -> str:
    return "   ".join(f"{each.label} {100 * each.probability:.0f} %" for each in explanation.guesses[:count])


def _cut(text: str, letters: int) -> str:
    """Printable text of at most so many letters."""
    text = _printable(text)
    return text if len(text) <= letters else f"{text[: letters - 1]}…"


def _cut_start(text: str, letters: int) -> str:
    """The same with the end of the text, such as the name of a file."""
    text = _printable(text)
    return text if len(text) <= letters else f"…{text[1 - letters :]}"


def _printable(text: str) -> str:
    """On one line and from left to right, whatever is in it."""
    plain = "".join("" if unicodedata.category(letter) == "Cf" else letter for letter in printable(text))
    return plain.encode("utf-8", "backslashreplace").decode()


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
    settings: Any = {"font.family": families, "text.parse_math": False, "axes.labelsize": 8.5}
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
