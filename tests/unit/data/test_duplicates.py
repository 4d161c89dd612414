"""Copies of drawn birds are found, and birds that only look alike are not taken for copies."""

from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image

from mpfgvc.config import BirdsConfig
from mpfgvc.data.duplicates import near_duplicates
from mpfgvc.data.inspection import thumbnail
from mpfgvc.data.readers.birds import read_birds
from planted_copies import CHANGES

PLANTED = 20


@pytest.fixture(scope="module")
def birds() -> list[Image.Image]:
    """150 pictures of 30 species."""
    photos = read_birds(BirdsConfig(species=30, train=5, test=1, image_size=96))
    return [sample.read() for sample in photos.subset("train")]


def thumbnails(images: Sequence[Image.Image]) -> np.ndarray:
    return np.stack([thumbnail(image) for image in images])


def test_different_birds_are_no_duplicates(birds: list[Image.Image]) -> None:
    assert near_duplicates(thumbnails(birds)) == []


@pytest.mark.parametrize("change", CHANGES)
def test_a_copy_is_found(birds: list[Image.Image], change: str) -> None:
    generator = np.random.default_rng(0)
    copies = [CHANGES[change](birds[index], generator) for index in range(PLANTED)]
    matches = near_duplicates(thumbnails([*birds, *copies]))
    expected = {(index, len(birds) + index) for index in range(PLANTED)}
    found = {(match.first, match.second) for match in matches}
    assert found <= expected
    least = 0.9 * PLANTED if "cropped" in change else PLANTED
    assert len(found) >= least
    assert all(match.mirrored == ("mirrored" in change) for match in matches)
    assert all(match.cropped == ("cropped" in change) for match in matches)


def test_one_picture_and_none_have_no_pairs(birds: list[Image.Image]) -> None:
    assert near_duplicates(thumbnails(birds[:1])) == []
    assert near_duplicates(np.zeros((0, 48, 48), dtype=np.uint8)) == []
