"""The picture shows the kept patches as they are and the others dimmed."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from mpfgvc.inference.explain import Explanation, _font, _shortened, _views, draw
from mpfgvc.inference.guess import Guess


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


def test_kept_patches_keep_their_pixels_and_the_others_lose_contrast(explanation: Explanation) -> None:
    plain, kept, _ = (np.asarray(view, dtype=int) for view in _views(explanation))
    for row, column in np.ndindex(2, 3):
        patch = np.s_[20 * row : 20 * row + 20, 20 * column : 20 * column + 20]
        if explanation.kept_mask[row, column]:
            assert (plain[patch] == kept[patch]).all()
        else:
            assert kept[patch].std() < 0.3 * plain[patch].std()


def test_attention_is_brightest_where_it_is_highest(explanation: Explanation) -> None:
    _, _, heat = (np.asarray(view, dtype=float) for view in _views(explanation))
    red = heat[..., 0] - heat[..., 2]
    centres = [[red[20 * row + 10, 20 * column + 10] for column in range(3)] for row in range(2)]
    assert np.unravel_index(np.argmax(centres), (2, 3)) == (1, 0)


def test_the_picture_has_a_row_for_each_photograph(explanation: Explanation) -> None:
    one, two = draw({"a": explanation}), draw({"a": explanation, "b": explanation})
    assert two.size == (one.width, 2 * one.height)


def test_long_names_and_guesses_stay_inside_the_picture(explanation: Explanation) -> None:
    guesses = [Guess(label="w" * 90, probability=0.5)] * 3
    picture = draw({"w" * 500: replace(explanation, guesses=guesses)})
    margin = np.asarray(picture)[:, -10:]
    assert (margin == 255).all()
    assert (np.asarray(picture)[:40] < 128).any(), "something is written"


def test_what_is_too_long_is_cut_to_fit() -> None:
    title = "a long name " * 40
    cut = _shortened(title, 14, 200)
    assert title.endswith(cut.removeprefix("..."))
    assert 150 < _font(14).getlength(cut) <= 200
