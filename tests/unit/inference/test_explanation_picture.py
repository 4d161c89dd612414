"""The picture shows the kept patches and what each of them says, under titles that differ."""

from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from mpfgvc.config import Selection
from mpfgvc.inference.answering import Guess
from mpfgvc.inference.explain import Explanation
from mpfgvc.inference.explanation_picture import (
    contact_sheet,
    distinct_titles,
    draw,
    draw_change,
    save_picture,
)
from mpfgvc.inference.explanation_views import View, change_view, evidence_view, head_views, views
from mpfgvc.inference.kept_change import kept_change
from mpfgvc.inference.lettering import Lettering
from mpfgvc.inference.nearest_photos import LikePhoto
from mpfgvc.inference.search import Neighbour


@pytest.fixture
def explanation() -> Explanation:
    pixels = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    attention = np.array([[0.1, 0.2, 0.05], [0.3, 0.15, 0.2]], dtype=np.float32)
    return Explanation(
        image=Image.fromarray(pixels),
        guesses=[Guess(label="wren", probability=0.75), Guess(label="tit", probability=0.25)],
        kept=[(1, 0), (0, 1)],
        attention=attention,
        heads=np.stack([attention, attention[::-1]]) / 2,
        answer="wren",
        against="tit",
        difference=1.5,
        change=[0.5, -0.25],
    )


@pytest.fixture
def letters() -> Lettering:
    """Pillow's own font, which is the same on every machine."""
    return Lettering(14, files=[])


SIZE = (60, 40)
"""Of the views, as of the photograph: patches of 20 pixels."""


def _pixels(view: View) -> NDArray[np.int64]:
    return _pixels_of(view.picture)


def _pixels_of(picture: Image.Image) -> NDArray[np.int64]:
    return np.asarray(picture, dtype=np.int64)


def _warmth_at_centres(pixels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Red minus blue in the middle of each patch, beside its sign."""
    return (pixels[..., 0] - pixels[..., 2])[4::20, 4::20]


def test_kept_patches_keep_their_pixels_and_the_others_lose_contrast(explanation: Explanation) -> None:
    plain, kept, *_ = (_pixels(view) for view in views(explanation, SIZE))
    for row, column in np.ndindex(2, 3):
        patch = np.s_[20 * row : 20 * row + 20, 20 * column : 20 * column + 20]
        if explanation.kept_mask[row, column]:
            assert (plain[patch] == kept[patch]).all()
        else:
            assert kept[patch].std() < 0.3 * plain[patch].std()


def test_attention_is_brightest_where_it_is_highest(explanation: Explanation) -> None:
    heat = _pixels(views(explanation, SIZE)[2])
    assert np.unravel_index(np.argmax(_warmth_at_centres(heat)), (2, 3)) == (1, 0)


def test_a_patch_is_blue_if_it_speaks_for_the_answer_and_orange_if_against(explanation: Explanation) -> None:
    view = evidence_view(explanation, SIZE)
    warmth = _warmth_at_centres(_pixels(view)) - _warmth_at_centres(_pixels(views(explanation, SIZE)[1]))
    assert warmth[1, 0] < -50
    assert warmth[0, 1] > 50
    assert abs(warmth[0, 0]) == 0, "what was not kept says nothing"
    assert view.caption == "+ for wren\n- for tit"


def test_patches_that_are_large_enough_have_signs_and_not_colour_alone(explanation: Explanation) -> None:
    same_sign = replace(explanation, change=[0.5, 0.5])
    signed, small = (_pixels(evidence_view(same_sign, size)) for size in ((60, 40), (24, 16)))
    assert (signed[25:35, 5:15] == 255).all(axis=2).any(), "white letters"
    assert not (small == 255).all(axis=2).any()


def test_each_head_has_a_view_of_its_own(explanation: Explanation) -> None:
    first, second = head_views(explanation, SIZE)
    assert (first.caption, second.caption) == ("head 1", "head 2")
    warmest = [
        np.unravel_index(np.argmax(_warmth_at_centres(_pixels(each))), (2, 3)) for each in (first, second)
    ]
    assert warmest == [(1, 0), (0, 0)]
    assert draw([("a", explanation)], heads=True).height > draw([("a", explanation)]).height


def test_the_nearest_training_photographs_are_shown_and_missing_ones_are_grey(
    explanation: Explanation,
) -> None:
    found = Neighbour(path="birds/1.jpg", label="wren", similarity=0.9)
    red = LikePhoto(found=found, image=Image.new("RGB", (30, 20), "red"))
    gone = LikePhoto(found=found, image=None)
    picture = np.asarray(draw([("a", replace(explanation, nearest={"wren": [red, gone], "tit": []}))]))
    plain = draw([("a", explanation)])
    assert picture.shape[0] > plain.height
    below = picture[plain.height - 12 :].reshape(-1, 3)
    assert (below == (255, 0, 0)).all(axis=1).any()
    assert (below == (208, 208, 208)).all(axis=1).any()


def test_a_contact_sheet_has_five_photographs_in_a_line(explanation: Explanation) -> None:
    one, five, six = (contact_sheet([("a", explanation)] * count) for count in (1, 5, 6))
    assert five.width > 4 * one.width
    assert five.height == one.height
    assert (six.width, six.height) == (five.width, 2 * five.height - 12)


def test_what_changed_between_two_photographs_has_a_frame(explanation: Explanation) -> None:
    other = replace(explanation, kept=[(1, 0), (1, 2)])
    change = kept_change(explanation, other)
    assert (change.both, change.only_first, change.only_second) == ([(1, 0)], [(0, 1)], [(1, 2)])
    framed = _pixels_of(change_view(other, change.only_second, SIZE))
    unframed = _pixels_of(change_view(other, [], SIZE))
    different = (framed != unframed).any(axis=2)
    assert different[20:, 40:].any()
    assert not different[:, :39].any()
    assert draw_change(("a", explanation), ("b", other)).width > 960


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
    save_picture(draw([(title, explanation)]), tmp_path / "why.png")
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
