"""A picture depends on (plumage, seed, index, size) alone, and its regions are where the attributes are."""

import hashlib
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context

import numpy as np
import pytest
from PIL import Image, ImageFilter

from mpfgvc.birds.plumage import ATTRIBUTES, PARTS, PARTS_OF, all_species
from mpfgvc.birds.scene import draw_image, draw_picture

PLUMAGE = all_species()[7].plumage
MOVES_THE_BIRD = {"beak_shape", "tail_shape"}
"""A longer bird is placed elsewhere, so two pictures cannot be compared pixel by pixel."""


EDGE = 32
"""Levels of 255 by which a covered shape may shine through the soft edge of the one above it."""


def digest(index: int) -> str:
    return hashlib.sha256(draw_image(PLUMAGE, seed=3, index=index).tobytes()).hexdigest()


def test_another_process_draws_the_same_pictures() -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert list(pool.map(digest, [5, 2, 9])) == [digest(5), digest(2), digest(9)]


def test_image_and_picture_show_the_same() -> None:
    picture = draw_picture(PLUMAGE, seed=3, index=4, size=80)
    assert picture.image.tobytes() == draw_image(PLUMAGE, seed=3, index=4, size=80).tobytes()
    assert picture.image.size == (80, 80)
    assert picture.regions.shape == (80, 80)


def test_pictures_differ_by_index_and_by_seed() -> None:
    pictures = [draw_image(PLUMAGE, seed=seed, index=index) for seed in (0, 1) for index in (0, 1)]
    assert len({picture.tobytes() for picture in pictures}) == 4


@pytest.mark.parametrize("attribute", sorted(set(ATTRIBUTES) - MOVES_THE_BIRD))
def test_changing_an_attribute_changes_pixels_of_its_parts_alone(attribute: str) -> None:
    changed_pixels = 0
    for index, value in enumerate(ATTRIBUTES[attribute]):
        other = replace(PLUMAGE, **{attribute: value})
        before, after = (draw_picture(bird, seed=1, index=index) for bird in (PLUMAGE, other))
        difference = np.abs(np.asarray(before.image, int) - np.asarray(after.image, int)).max(axis=2) > EDGE
        parts = [picture.part_mask(part) for picture in (before, after) for part in PARTS_OF[attribute]]
        near = Image.fromarray(np.any(parts, axis=0)).convert("L").filter(ImageFilter.MaxFilter(5))
        assert not (difference & ~(np.asarray(near) > 0)).any(), value
        changed_pixels += int(difference.sum())
    assert changed_pixels > 10


def test_every_part_is_visible_in_most_pictures() -> None:
    pictures = [draw_picture(kind.plumage, seed=0, index=kind.index) for kind in all_species()[:100]]
    for part in PARTS:
        visible = sum(picture.part_mask(part).sum() >= 3 for picture in pictures)
        assert visible >= 90, part


def test_the_box_holds_the_bird_and_lies_in_the_picture() -> None:
    for index in range(20):
        picture = draw_picture(PLUMAGE, seed=0, index=index)
        left, top, width, height = picture.box
        inside = picture.regions[top : top + height, left : left + width]
        assert (inside > 0).sum() == (picture.regions > 0).sum()
        assert width >= 40 or height >= 40


def test_without_variation_the_birds_lie_on_top_of_each_other() -> None:
    def contrast_of_mean(variation: float) -> float:
        pictures = [draw_image(PLUMAGE, seed=0, index=index, variation=variation) for index in range(40)]
        return float(np.mean([np.asarray(picture, float) for picture in pictures], axis=0).std())

    easy, half, full = (contrast_of_mean(variation) for variation in (0.0, 0.5, 1.0))
    assert easy > 1.2 * half > 1.2 * full
