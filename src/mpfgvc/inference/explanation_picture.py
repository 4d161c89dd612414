"""Explanations as one PNG: a row for each photograph, a contact sheet of many, or two compared.

A row has its title, its guesses and four views (explanation_views.py), and below them, where they were asked
for, the attention of each head and the nearest training photographs of both classes.
"""

import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from mpfgvc.files import write_bytes
from mpfgvc.inference.explain import Explanation
from mpfgvc.inference.explanation_views import (
    Size,
    View,
    change_view,
    evidence_view,
    head_views,
    views,
)
from mpfgvc.inference.kept_change import kept_change
from mpfgvc.inference.lettering import Lettering, lettering
from mpfgvc.inference.nearest_photos import LikePhoto

VIEW_SIDE, SMALL_SIDE = 240, 120
"""Longer side in pixels of each view, and of those below them."""
SHEET_COLUMNS = 5
TitledExplanation = tuple[str, Explanation]
"""An explanation and the title above it, such as the path of the photograph."""
_GAP, _LINE = 12, 22
_LEAST_WIDTH = 480  # of a row, so that a tall photograph leaves room for its title
_TITLE, _GUESSES, _CAPTION = 16, 14, 12  # sizes of letters in pixels
_CAPTION_LINE = 16
_BLACK, _DARK, _GREY = "black", "#3c3c3c", "#6e6e6e"


def save_picture(picture: Image.Image, file: str | Path) -> None:
    """Write a picture as PNG, whole or not at all. Raises OutputError."""
    content = io.BytesIO()
    picture.save(content, format="PNG")
    write_bytes(Path(file), content.getvalue())


def draw(explanations: Sequence[TitledExplanation], *, heads: bool = False) -> Image.Image:
    """One picture: for each explanation its title, its guesses and its views, from top to bottom."""
    widths = [_row_width(explanation) for _, explanation in explanations]
    titles = distinct_titles(
        [title for title, _ in explanations], letters=lettering(_TITLE), width=min(widths) - 2 * _GAP
    )
    rows = [
        _draw_row(each, title, heads=heads) for (_, each), title in zip(explanations, titles, strict=True)
    ]
    return _below_each_other(rows)


def contact_sheet(explanations: Sequence[TitledExplanation]) -> Image.Image:
    """The evidence view of each explanation with its best guess, `SHEET_COLUMNS` beside each other."""
    titles = distinct_titles(
        [title for title, _ in explanations], letters=lettering(_CAPTION), width=VIEW_SIDE
    )
    cells = [_cell(each, title) for (_, each), title in zip(explanations, titles, strict=True)]
    columns = min(SHEET_COLUMNS, len(cells))
    width, height = VIEW_SIDE + _GAP, max(cell.height for cell in cells)
    sheet = Image.new("RGB", (columns * width + _GAP, -(-len(cells) // columns) * height + _GAP), "white")
    for place, cell in enumerate(cells):
        sheet.paste(cell, (_GAP + place % columns * width, _GAP + place // columns * height))
    return sheet


def draw_change(first: TitledExplanation, second: TitledExplanation) -> Image.Image:
    """Two photographs beside each other; the kept patches that only one of them keeps have a frame."""
    change = kept_change(first[1], second[1])
    pairs = ((first, change.only_first), (second, change.only_second))
    shown = []
    for (_, explanation), places in pairs:
        picture = change_view(explanation, places, _size(explanation.image, 2 * VIEW_SIDE))
        shown.append(View(picture=picture, caption=f"{_guesses(explanation, 1)}; {len(places)} only here"))
    width = sum(view.picture.width + _GAP for view in shown) + _GAP
    titles = "   |   ".join(title for title, _ in (first, second))
    kept = f"{len(change.both)} patches are kept in both"
    return _below_each_other([_line_of_text(titles, width), _line_of_text(kept, width), _band(shown, width)])


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


def _changed_view(explanation: Explanation, places: Sequence[tuple[int, int]]) -> View:
    picture = change_view(explanation, places, _size(explanation.image, 2 * VIEW_SIDE))
    return View(picture=picture, caption=f"{_guesses(explanation, 1)}; {len(places)} only here")


def _cell(explanation: Explanation, title: str) -> Image.Image:
    view = evidence_view(explanation, _size(explanation.image, VIEW_SIDE))
    lines = [_guesses(explanation, 1), *view.caption.splitlines(), title]
    cell = Image.new("RGB", (VIEW_SIDE, VIEW_SIDE + len(lines) * _CAPTION_LINE + 12), "white")
    cell.paste(view.picture, ((VIEW_SIDE - view.picture.width) // 2, 0))
    pen, letters = ImageDraw.Draw(cell), lettering(_CAPTION)
    for place, line in enumerate(lines):
        top = view.picture.height + 2 + place * _CAPTION_LINE
        colour = _GREY if place else _BLACK
        letters.draw(pen, (0, top), letters.cut_end(line, VIEW_SIDE), fill=colour)
    return cell


def _row_width(explanation: Explanation) -> int:
    return max(_LEAST_WIDTH, 4 * _size(explanation.image, VIEW_SIDE)[0] + 5 * _GAP)


def _draw_row(explanation: Explanation, title: str, *, heads: bool) -> Image.Image:
    width = _row_width(explanation)
    bands = [_heading(explanation, title, width)]
    bands.append(_band(views(explanation, _size(explanation.image, VIEW_SIDE)), width))
    if heads:
        bands.append(_band(head_views(explanation, _size(explanation.image, SMALL_SIDE)), width))
    for label, photos in explanation.nearest.items():
        if photos:
            bands.append(_line_of_text(f"the nearest training photographs of {label}", width))
            bands.append(_band([_shown(photo) for photo in photos], width))
    return _below_each_other([*bands, Image.new("RGB", (width, _GAP), "white")])


def _heading(explanation: Explanation, title: str, width: int) -> Image.Image:
    heading = Image.new("RGB", (width, 2 * _LINE + 6), "white")
    pen = ImageDraw.Draw(heading)
    lettering(_TITLE).draw(pen, (_GAP, 4), title, fill=_BLACK)
    guesses = _guesses(explanation, len(explanation.guesses))
    letters = lettering(_GUESSES)
    letters.draw(pen, (_GAP, 4 + _LINE), letters.cut_end(guesses, width - 2 * _GAP), fill=_DARK)
    return heading


def _guesses(explanation: Explanation, count: int) -> str:
    guesses = explanation.guesses[:count]
    return "   ".join(f"{guess.label} {100 * guess.probability:.0f} %" for guess in guesses)


def _band(shown: Sequence[View], width: int) -> Image.Image:
    """Views beside each other with their captions, in as many lines as they need."""
    wide = max(view.picture.width for view in shown) + _GAP
    lines = max(view.caption.count("\n") + 1 for view in shown)
    high = max(view.picture.height for view in shown) + lines * _CAPTION_LINE + 6
    columns = max(1, (width - _GAP) // wide)
    band = Image.new("RGB", (width, -(-len(shown) // columns) * high), "white")
    for place, view in enumerate(shown):
        left, top = _GAP + place % columns * wide, place // columns * high
        band.paste(view.picture, (left, top))
        _write_caption(band, view.caption, (left, top + view.picture.height + 2), wide - _GAP)
    return band


def _write_caption(band: Image.Image, caption: str, place: tuple[int, int], width: int) -> None:
    pen, letters, (left, top) = ImageDraw.Draw(band), lettering(_CAPTION), place
    for number, line in enumerate(caption.splitlines()):
        below = top + number * _CAPTION_LINE
        letters.draw(pen, (left, below), letters.cut_end(line, width), fill=_GREY)


def _line_of_text(text: str, width: int) -> Image.Image:
    line = Image.new("RGB", (width, _LINE), "white")
    letters = lettering(_GUESSES)
    letters.draw(ImageDraw.Draw(line), (_GAP, 2), letters.cut_start(text, width - 2 * _GAP), fill=_DARK)
    return line


def _shown(photo: LikePhoto) -> View:
    """A photograph at a small size; grey where it cannot be opened."""
    picture = photo.image or Image.new("RGB", (SMALL_SIDE, SMALL_SIDE), "#d0d0d0")
    says = f"{photo.found.similarity:.2f} " if photo.image else "not there: "
    letters = lettering(_CAPTION)
    name = letters.cut_start(Path(photo.found.path).name, SMALL_SIDE - letters.width(says))
    return View(
        picture=picture.resize(_size(picture, SMALL_SIDE), Image.Resampling.LANCZOS), caption=says + name
    )


def _below_each_other(parts: Sequence[Image.Image]) -> Image.Image:
    whole = Image.new("RGB", (max(part.width for part in parts), sum(part.height for part in parts)), "white")
    top = 0
    for part in parts:
        whole.paste(part, (0, top))
        top += part.height
    return whole


def _size(image: Image.Image, side: int) -> Size:
    """The size at which the longer side of an image is `side` pixels."""
    factor = side / max(image.size)
    return max(1, round(image.width * factor)), max(1, round(image.height * factor))
