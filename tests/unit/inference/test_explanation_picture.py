"""The picture shows the kept patches as they are and the others dimmed, under titles that differ."""

from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from mpfgvc.config import Selection
from mpfgvc.inference.explain import Explanation
from mpfgvc.inference.explanation_picture import distinct_titles, draw, save_picture, views
from mpfgvc.inference.guess import Guess
from mpfgvc.inference.lettering import Lettering


@pytest.fixture
def explanation() -> Explanation:
    pixels = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    attention = np.array([[0.1, 0.2, 0.05], [0.3, 0.15, 0.2]], dtype=np.float32)
    return Explanation(
        image=Image.fromarray(pixels),
        guesses=[Guess(label="wren", probability=0.75), Guess(label="tit", probability=0.25)],
        kept=[(1, 0), (0, 1)],
        attention=attention,
    )


@pytest.fixture
def letters() -> Lettering:
    """Pillow's own font, which is the same on every machine."""
    return Lettering(14, files=[])


def test_kept_patches_keep_their_pixels_and_the_others_lose_contrast(explanation: Explanation) -> None:
    plain, kept, _ = (np.asarray(view, dtype=int) for view in views(explanation))
    for row, column in np.ndindex(2, 3):
        patch = np.s_[20 * row : 20 * row + 20, 20 * column : 20 * column + 20]
        if explanation.kept_mask[row, column]:
            assert (plain[patch] == kept[patch]).all()
        else:
            assert kept[patch].std() < 0.3 * plain[patch].std()


def test_attention_is_brightest_where_it_is_highest(explanation: Explanation) -> None:
    _, _, heat = (np.asarray(view, dtype=float) for view in views(explanation))
    red = heat[..., 0] - heat[..., 2]
    centres = [[red[20 * row + 10, 20 * column + 10] for column in range(3)] for row in range(2)]
    assert np.unravel_index(np.argmax(centres), (2, 3)) == (1, 0)


def test_the_caption_says_what_the_patches_were_chosen_by(explanation: Explanation) -> None:
    pictures = {
        selection: np.asarray(draw([("a.png", replace(explanation, selection=selection))]))
        for selection in get_args(Selection)
    }
    assert len({picture.tobytes() for picture in pictures.values()}) == 3


def test_every_photograph_has_a_row_even_under_the_same_title(explanation: Explanation) -> None:
    one = draw([("a", explanation)])
    for second in ("a", "b"):
        assert draw([("a", explanation), (second, explanation)]).size == (one.width, 2 * one.height)


def test_long_titles_and_guesses_stay_inside_the_picture(explanation: Explanation) -> None:
    guesses = [Guess(label="w" * 90, probability=0.5)] * 3
    picture = draw([("w" * 500, replace(explanation, guesses=guesses))])
    margin = np.asarray(picture)[:, -10:]
    assert (margin == 255).all()
    for top, bottom in ((0, 22), (26, 44)):
        assert (np.asarray(picture)[top:bottom] < 128).any(), "something is written"


@pytest.mark.parametrize("size", [(8, 96), (96, 8)])
def test_a_narrow_or_flat_image_leaves_room_for_its_title(
    explanation: Explanation, size: tuple[int, int]
) -> None:
    picture = draw([("a title of some length", replace(explanation, image=Image.new("RGB", size)))])
    assert picture.width >= 480
    assert (np.asarray(picture)[:22, 100:] < 128).any()


def test_a_title_in_any_script_is_written(explanation: Explanation, tmp_path: Path) -> None:
    title = "Café/鴝/🐦/\u202e/\n/caf\udce9.jpg"
    save_picture([(title, explanation)], tmp_path / "why.png")
    assert (np.asarray(Image.open(tmp_path / "why.png").convert("RGB"))[:22] < 128).any()


def test_titles_that_fit_stay_as_they_are(letters: Lettering) -> None:
    assert distinct_titles(["a/7.jpg", "b/7.jpg"], letters=letters, width=200) == ["a/7.jpg", "b/7.jpg"]


def test_a_title_that_is_too_long_keeps_its_end(letters: Lettering) -> None:
    (cut,) = distinct_titles(["folder/" * 40 + "7.jpg"], letters=letters, width=200)
    assert cut.startswith("...")
    assert cut.endswith("/7.jpg")
    assert 150 < letters.width(cut) <= 200


def test_titles_that_would_read_the_same_get_their_numbers(letters: Lettering) -> None:
    deep = "/folder" * 40 + "/7.jpg"
    titles = distinct_titles(["left" + deep, "x.jpg", "right" + deep], letters=letters, width=200)
    assert titles[0].startswith("1: ...")
    assert titles[1] == "x.jpg"
    assert titles[2].startswith("3: ...")
    assert all(letters.width(title) <= 200 for title in titles)
    assert titles[0].endswith("/7.jpg")


def test_the_same_photograph_twice_needs_no_numbers(letters: Lettering) -> None:
    deep = "/folder" * 40 + "/7.jpg"
    first, second = distinct_titles([deep, deep], letters=letters, width=200)
    assert first == second
    assert first.startswith("...")
