"""A character is drawn from a font that has it, or written as its escape; never as a box."""

from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image, ImageDraw

from mpfgvc.inference.lettering import Lettering

DEJAVU = str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")


@pytest.fixture
def plain() -> Lettering:
    """Pillow's own font: ASCII, and some accents."""
    return Lettering(14, files=[])


@pytest.fixture
def wide() -> Lettering:
    """A font with accents, Greek and Cyrillic, but no Chinese."""
    return Lettering(14, files=[DEJAVU])


def _ink(letters: Lettering, text: str) -> np.ndarray:
    image = Image.new("L", (300, 24), 255)
    letters.draw(ImageDraw.Draw(image), (2, 2), text, fill="black")
    return np.asarray(image)


def test_text_that_the_font_has_is_written_as_it_is(wide: Lettering) -> None:
    for text in ("bird 7.jpg", "Café Größe", "Жаворонок", "Κότσυφας"):
        assert wide.shown(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("鴝.jpg", r"\u9d1d.jpg"),
        ("🐦", r"\U0001f426"),
        ("a\nb\tc", r"a\nb\tc"),
        ("\u202egpj.exe", r"\u202egpj.exe"),
        ("caf\udce9", r"caf\udce9"),
    ],
)
def test_what_cannot_be_drawn_is_written_as_its_escape(wide: Lettering, text: str, shown: str) -> None:
    assert wide.shown(text) == shown
    assert (_ink(wide, text) == _ink(wide, shown)).all()


def test_a_decomposed_accent_is_drawn_like_a_composed_one(wide: Lettering) -> None:
    assert wide.shown("Cafe\u0301") == "Caf\u00e9"


def test_a_later_font_fills_the_gaps_of_an_earlier_one(plain: Lettering, wide: Lettering) -> None:
    assert plain.shown("Ж") == r"\u0416"
    assert wide.shown("Ж") == "Ж"
    assert (_ink(wide, "Ж") < 128).any()


def test_the_width_is_that_of_what_is_drawn(wide: Lettering) -> None:
    for text in ("bird", "鴝鴝", "Жj"):
        columns = np.flatnonzero((_ink(wide, text) < 128).any(axis=0))
        assert wide.width(text) == pytest.approx(columns[-1] - 1, abs=3)


def test_text_is_cut_at_its_start_or_end_to_a_width(plain: Lettering) -> None:
    text = "one two three four five six seven"
    assert plain.cut_start(text, 999) == plain.cut_end(text, 999) == text
    start, end = plain.cut_start(text, 120), plain.cut_end(text, 120)
    assert text.endswith(start.removeprefix("..."))
    assert text.startswith(end.removesuffix("..."))
    for cut in (start, end):
        assert 100 < plain.width(cut) <= 120


def test_without_any_system_font_and_fontconfig_there_is_still_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mpfgvc.inference.lettering.SYSTEM_FONTS", ("no such font.ttf",))
    monkeypatch.setenv("PATH", "")
    assert Lettering(15).shown("bird 鴛") == r"bird \u9d1b"
