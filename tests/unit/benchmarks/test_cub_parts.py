"""Parts and boxes of CUB in the patches that a tower sees."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cub_parts import Annotation, PatchGrid, read_annotations
from mpfgvc.data.preprocessing import Preprocessing, prepare

PLAIN = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
SQUASH = Preprocessing(image_size=(224, 224), resize="squash", crop_ratio=0.875, **PLAIN)
SHORT = Preprocessing(image_size=(96, 112), resize="short", crop_ratio=0.8, **PLAIN)


def annotation(*parts: tuple[float, float], box=((0.0, 0.0), (1.0, 1.0))) -> Annotation:
    return Annotation(parts=np.array(parts).reshape(-1, 2), box=np.array(box))


def test_parts_and_boxes_are_read_by_photograph(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "images.txt").write_text("1 a/x.jpg\n2 b/y z.jpg\n")
    (tmp_path / "bounding_boxes.txt").write_text("1 30.5 20.0 10.0 5.0\n2 1.0 2.0 3.0 4.0\n")
    locations = "1 1 12.5 7.0 1\n1 2 0.0 0.0 0\n2 1 3.0 4.0 0\n"
    (tmp_path / "parts" / "part_locs.txt").write_text(locations)
    read = read_annotations(tmp_path)
    first = read[tmp_path / "images" / "a" / "x.jpg"]
    assert first.parts.tolist() == [[7.0, 12.5]]
    assert first.box.tolist() == [[20.0, 30.5], [25.0, 40.5]]
    assert read[tmp_path / "images" / "b" / "y z.jpg"].parts.shape == (0, 2)


def test_a_part_is_in_the_patch_that_shows_it_and_what_the_crop_cuts_away_is_not_counted() -> None:
    patches = PatchGrid(preprocessing=SQUASH, grid=(14, 14))  # scaled to 256: 16 pixels are cut off each side
    parts = annotation((8.0, 16.0), (8.0, 16.1), (7.9, 16.0), (119.9, 239.9), (60.0, 240.0))
    counts = patches.parts(parts, (128, 256))
    assert counts.sum() == 3
    assert (counts[0], counts[-1]) == (2, 1)


@pytest.mark.parametrize("preprocessing", [SQUASH, SHORT])
@pytest.mark.parametrize("shape", [(256, 171), (144, 255), (200, 1023)])
def test_a_part_is_where_the_prepared_photograph_shows_it(preprocessing, shape) -> None:
    height, width = shape
    side_y, side_x = preprocessing.image_size
    patches = PatchGrid(preprocessing=preprocessing, grid=(side_y, side_x))  # a patch is a pixel
    for y, x in [(height // 2, width // 2), (height // 3, width // 2 + 20), (2 * height // 3, width // 2 - 9)]:
        pixels = np.zeros((height, width, 3), dtype=np.uint8)
        pixels[y, x] = 255
        shown = prepare(Image.fromarray(pixels), preprocessing)[0].clip(min=0)
        weights = shown / shown.sum()
        middle = (weights.sum(axis=1) @ np.arange(side_y), weights.sum(axis=0) @ np.arange(side_x))
        cell = np.unravel_index(patches.parts(annotation((y + 0.5, x + 0.5)), shape).argmax(), (side_y, side_x))
        assert np.abs(np.subtract(cell, middle)).max() <= 1


@pytest.mark.parametrize("preprocessing", [SQUASH, SHORT])
def test_the_box_covers_the_pixels_that_the_prepared_photograph_shows_of_it(preprocessing) -> None:
    height, width, (top, left), (bottom, right) = 180, 250, (20, 5), (131, 160)
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[top:bottom, left:right] = 255
    shown = prepare(Image.fromarray(pixels), preprocessing)[0]
    rows, columns = (size // 16 for size in preprocessing.image_size)
    expected = shown.reshape(rows, 16, columns, 16).sum(axis=(1, 3)).ravel()
    box = annotation(box=((top, left), (bottom, right)))
    patches = PatchGrid(preprocessing=preprocessing, grid=(rows, columns))
    assert patches.box(box, (height, width)) == pytest.approx(expected, abs=4)  # of 256 pixels


def test_a_box_outside_the_crop_has_no_area() -> None:
    patches = PatchGrid(preprocessing=SQUASH, grid=(14, 14))
    assert patches.box(annotation(box=((0.0, 0.0), (15.9, 256.0))), (256, 256)).sum() == 0
    assert patches.box(annotation(box=((0.0, 0.0), (256.0, 256.0))), (256, 256)).sum() == 224 * 224
