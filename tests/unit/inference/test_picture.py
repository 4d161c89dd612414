"""The picture shows the kept patches and what each of them says, whatever its titles hold."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from mpfgvc.config import Selection
from mpfgvc.inference.answering import Guess
from mpfgvc.inference.embeddings import Neighbour
from mpfgvc.inference.explain import Explanation, LikePhoto
from mpfgvc.inference.picture import Cell, contact_sheet, draw, evidence_view, kept_view, sheet, shortened


@pytest.fixture
def explanation() -> Explanation:
    """Of a grey photograph with 2 x 3 patches."""
    return Explanation(
        image=Image.new("RGB", (60, 40), "#808080"),
        guesses=[Guess(label="wren", probability=0.75), Guess(label="tit", probability=0.25)],
        kept=[(1, 0), (0, 1)],
        attention=np.array([[0.1, 0.2, 0.05], [0.3, 0.15, 0.2]], dtype=np.float32),
        answer="wren",
        against="tit",
        difference=1.5,
        change=[0.5, -0.25],
    )


def _has(picture: Image.Image, colour: tuple[int, int, int], *, within: int = 12) -> bool:
    """Whether some pixels are about of this colour."""
    pixels = np.asarray(picture, dtype=int)
    return bool((np.abs(pixels - colour).max(axis=2) <= within).sum() > 50)


BLUE, ORANGE, RED, GREY = (41, 110, 255), (232, 110, 0), (255, 0, 0), (208, 208, 208)


def test_kept_patches_keep_their_pixels_and_the_others_lose_contrast(explanation: Explanation) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    shown = np.asarray(kept_view(replace(explanation, image=Image.fromarray(pixels)), (60, 40)))
    for row, column in np.ndindex(2, 3):
        patch = np.s_[20 * row : 20 * row + 20, 20 * column : 20 * column + 20]
        if explanation.kept_mask[row, column]:
            assert (pixels[patch] == shown[patch]).all()
        else:
            assert shown[patch].std() < 0.3 * pixels[patch].std()


@pytest.mark.parametrize("picture", [draw, contact_sheet])
def test_a_patch_is_blue_if_it_speaks_for_the_answer_and_orange_if_against(
    explanation: Explanation, picture: object
) -> None:
    both, blue, orange = (
        picture([("a", replace(explanation, change=change))])  # type: ignore[operator]
        for change in ([0.5, -0.25], [0.5, 0.5], [-0.5, -0.25])
    )
    assert _has(both, BLUE)
    assert _has(both, ORANGE)
    assert _has(blue, BLUE)
    assert not _has(blue, ORANGE)
    assert not _has(orange, BLUE)


def test_the_nearest_training_photographs_are_shown_and_missing_ones_are_grey(explanation: Explanation) -> None:
    found = Neighbour(path="birds/1.jpg", label="wren", similarity=0.9)
    red = LikePhoto(found=found, image=Image.new("RGB", (30, 20), "red"))
    picture = draw([("a", replace(explanation, nearest={"wren": [red, replace(red, image=None)], "tit": []}))])
    plain = draw([("a", explanation)])
    assert picture.height > plain.height
    assert _has(picture, RED)
    assert _has(picture, GREY, within=0)
    assert not _has(plain, RED)


def test_a_frame_leaves_the_middle_of_its_patch_as_it_is(explanation: Explanation) -> None:
    view = np.asarray(evidence_view(explanation))
    height, width = view.shape[0] // 2, view.shape[1] // 3
    for row, column in explanation.kept:
        middle = np.s_[int((row + 0.4) * height) : int((row + 0.85) * height)]
        assert (view[middle, int((column + 0.4) * width) : int((column + 0.85) * width)] == 128).all()


def test_a_contact_sheet_has_two_photographs_in_a_line_each_beside_what_its_patches_say(
    explanation: Explanation,
) -> None:
    one, two, three = (contact_sheet([("a", explanation)] * count) for count in (1, 2, 3))
    assert one.size == two.size
    assert (three.width, three.height) == (two.width, 2 * two.height)
    assert sheet([Cell([explanation.image], "wren 40 %", "a.jpg")] * 5, columns=4).width == two.width


def test_long_names_are_cut_in_the_middle_so_that_they_read_differently() -> None:
    names = [f"Cercopithecus albogularis {end}" for end in ("erythrarchus", "francescae")]
    cut = [shortened(name, 26) for name in names]
    assert [len(name) for name in cut] == [26, 26]
    assert cut == ["Cercopithe…is erythrarchus", "Cercopithe…aris francescae"]
    assert shortened("wren\n", 26) == "wren\\n"


def test_the_caption_says_what_the_patches_were_chosen_by(explanation: Explanation) -> None:
    pictures = {
        draw([("a.png", replace(explanation, selection=selection))]).tobytes() for selection in get_args(Selection)
    }
    assert len(pictures) == 3


def test_every_photograph_has_a_row_even_under_the_same_title(explanation: Explanation) -> None:
    one = draw([("a", explanation)])
    for second in ("a", "b"):
        assert draw([("a", explanation), (second, explanation)]).size == (one.width, 2 * one.height)


@pytest.mark.parametrize("size", [(60, 40), (8, 96), (96, 8)])
def test_long_titles_in_any_script_and_names_like_formulas_stay_inside_the_picture(
    explanation: Explanation, size: tuple[int, int]
) -> None:
    guesses = [Guess(label="$x^{2$" + "a rare bird" * 9, probability=0.5)] * 3
    odd = replace(explanation, guesses=guesses, answer="鴝 $\\frac$", image=Image.new("RGB", size))
    picture = draw([("Café/鴝/🐦/\u202e/\n/caf\udce9.jpg" + "photos/" * 80, odd)])
    assert picture.width == 1350
    assert (np.asarray(picture)[:, -4:] == 255).all()
    assert (np.asarray(picture)[-3:] == 255).all(), "the last line is not cut"
    assert (np.asarray(picture)[:25] < 128).any(), "something is written"
