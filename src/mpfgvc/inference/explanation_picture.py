"""Explanations as a picture: a row for each photograph, with its title, its guesses and three views.

The views are the photograph as the tower sees it; the kept patches, the others dimmed; and
the attention of the class token to every patch, or whatever else the kept ones were chosen by.
"""

import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from mpfgvc.config import Selection
from mpfgvc.inference.explain import Explanation
from mpfgvc.inference.lettering import Lettering, lettering
from mpfgvc.storage.whole_files import write_bytes

VIEW_SIDE = 240
"""Longer side of each view in pixels."""
CHOSEN_BY: dict[Selection, str] = {
    "attention": "attention of the class token",
    "rollout": "attention rollout",
    "random": "chance, which chose the patches",
}
"""The caption of the third view."""
TitledExplanation = tuple[str, Explanation]
"""An explanation and the title above it, such as the path of the photograph."""
_GAP, _LINE = 12, 22
_LEAST_WIDTH = 480  # of a row, so that a tall photograph leaves room for its title
_DIMMED = 0.22
_WARM = np.array([255.0, 120.0, 20.0])
_TITLE, _GUESSES, _CAPTION = 16, 14, 12  # sizes of letters in pixels


def save_picture(explanations: Sequence[TitledExplanation], file: str | Path) -> None:
    """Write `draw`'s picture as PNG, whole or not at all. Raises OutputError."""
    content = io.BytesIO()
    draw(explanations).save(content, format="PNG")
    write_bytes(Path(file), content.getvalue())


def draw(explanations: Sequence[TitledExplanation]) -> Image.Image:
    """One picture: for each explanation its title, its guesses and its three views, from top to bottom."""
    widths = [_row_width(explanation) for _, explanation in explanations]
    titles = distinct_titles(
        [title for title, _ in explanations], letters=lettering(_TITLE), width=min(widths) - 2 * _GAP
    )
    rows = [_draw_row(each, title) for (_, each), title in zip(explanations, titles, strict=True)]
    sheet = Image.new("RGB", (max(widths), sum(row.height for row in rows)), "white")
    top = 0
    for row in rows:
        sheet.paste(row, (0, top))
        top += row.height
    return sheet


def distinct_titles(titles: Sequence[str], *, letters: Lettering, width: float) -> list[str]:
    """The titles, each cut at its start to `width` pixels.

    Where titles that differ would read the same, each is led by its place: `2: ...birds/7.jpg`.
    """
    cut = [letters.cut_start(title, width) for title in titles]
    different = dict.fromkeys(zip(cut, titles, strict=True))
    readings = Counter(letters.shown(short) for short, _ in different)
    for place, (short, title) in enumerate(zip(cut, titles, strict=True)):
        if readings[letters.shown(short)] > 1:
            number = f"{place + 1}: "
            cut[place] = number + letters.cut_start(title, width - letters.width(number))
    return cut


def views(explanation: Explanation) -> tuple[Image.Image, Image.Image, Image.Image]:
    """The three views, all in the size that the tower sees: plain, kept patches, attention."""
    image = explanation.image
    pixels = np.asarray(image, dtype=np.float32)
    kept = _spread(explanation.kept_mask.astype(np.float32), image, Image.Resampling.NEAREST)
    heat = _spread(explanation.attention / explanation.attention.max(), image, Image.Resampling.BICUBIC)
    dimmed = pixels * (_DIMMED + (1 - _DIMMED) * kept) + 255 * 0.35 * (1 - kept)
    warm = pixels.mean(axis=2, keepdims=True) * 0.55 * (1 - 0.6 * heat) + _WARM * 0.85 * heat
    return image, _to_image(dimmed), _to_image(warm)


def _row_width(explanation: Explanation) -> int:
    return max(_LEAST_WIDTH, 3 * _enlarged_size(explanation.image)[0] + 4 * _GAP)


def _draw_row(explanation: Explanation, title: str) -> Image.Image:
    width, height = _enlarged_size(explanation.image)
    row = Image.new("RGB", (_row_width(explanation), height + 3 * _LINE + _GAP), "white")
    pen = ImageDraw.Draw(row)
    lettering(_TITLE).draw(pen, (_GAP, 4), title, fill="black")
    guesses = "   ".join(f"{guess.label} {100 * guess.probability:.0f} %" for guess in explanation.guesses)
    best = lettering(_GUESSES).cut_end(guesses, row.width - 2 * _GAP)
    lettering(_GUESSES).draw(pen, (_GAP, 4 + _LINE), best, fill="#3c3c3c")
    names = (
        "what the tower sees",
        f"the {len(explanation.kept)} kept patches",
        CHOSEN_BY[explanation.selection],
    )
    for place, (view, name) in enumerate(zip(views(explanation), names, strict=True)):
        left = _GAP + place * (width + _GAP)
        row.paste(view.resize((width, height), Image.Resampling.BICUBIC), (left, 2 * _LINE + 6))
        caption = lettering(_CAPTION).cut_end(name, width)
        lettering(_CAPTION).draw(pen, (left, 2 * _LINE + 8 + height), caption, fill="#6e6e6e")
    return row


def _spread(grid: NDArray[np.float32], image: Image.Image, resample: Image.Resampling) -> NDArray[np.float32]:
    """One value per patch as one per pixel, (height, width, 1), 0..1."""
    spread = Image.fromarray(grid.astype(np.float32)).resize(image.size, resample)
    values: NDArray[np.float32] = np.clip(np.asarray(spread), 0, 1)[..., None]
    return values


def _enlarged_size(image: Image.Image) -> tuple[int, int]:
    factor = VIEW_SIDE / max(image.size)
    return max(1, round(image.width * factor)), max(1, round(image.height * factor))


def _to_image(values: NDArray[np.float32]) -> Image.Image:
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))
