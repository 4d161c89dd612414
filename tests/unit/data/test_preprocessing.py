"""From an image to the numbers of the tower, against torchvision and the written formula."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode, v2

from mpfgvc.data.preprocessing import Preprocessing, points_in_view, prepare
from mpfgvc.errors import ConfigError

NORM = {"mean": (0.1, 0.2, 0.3), "std": (0.5, 0.6, 0.7)}


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize(("width", "height"), [(50, 37), (31, 64), (16, 20), (40, 40)])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_it_equals_the_usual_resize_and_centre_crop(width, height, interpolation):
    image = noise(width, height)
    preprocessing = Preprocessing(image_size=(28, 28), crop_ratio=0.875, interpolation=interpolation, **NORM)
    usual = v2.Compose([
        v2.Resize(32, InterpolationMode(interpolation)), v2.CenterCrop(28),
        v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(**NORM),
    ])  # fmt: skip
    numbers = prepare(image, preprocessing)
    assert (numbers.dtype, numbers.shape) == (np.float32, (3, 28, 28))
    assert np.abs(numbers - usual(image).numpy()).max() < 1e-6


def test_squash_scales_both_sides_before_the_crop():
    image = noise(50, 37)
    preprocessing = Preprocessing(image_size=(24, 18), resize="squash", crop_ratio=0.75, **NORM)
    pixels = np.asarray(image.resize((24, 32), Image.Resampling.BICUBIC))[4:28, 3:21] / 255
    expected = (pixels - NORM["mean"]) / NORM["std"]
    assert np.allclose(prepare(image, preprocessing), expected.transpose(2, 0, 1), atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": (0, 4)}, r"image_size must be two sizes above 0, got \(0, 4\)"),
        ({"image_size": ()}, "image_size must be two sizes"),
        ({"crop_ratio": 1.5}, "crop_ratio must be above 0 and at most 1, got 1.5"),
        ({"resize": "long"}, "resize must be short or squash, got long"),
        ({"interpolation": "box"}, "interpolation must be one of bicubic"),
        ({"mean": (0.5,)}, "mean must be three numbers"),
        ({"std": (0.5, 0.0, 0.5)}, "std must be three numbers above 0"),
    ],
)
def test_values_that_break_a_rule_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        Preprocessing(**{"image_size": (24, 18), **NORM, **change})


@pytest.mark.parametrize("resize", ["short", "squash"])
@pytest.mark.parametrize("shape", [(90, 61), (40, 130), (30, 391)])
def test_a_point_is_mapped_to_where_the_prepared_photograph_shows_it(resize, shape) -> None:
    plain = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    preprocessing = Preprocessing(image_size=(48, 56), resize=resize, crop_ratio=0.8, **plain)
    y, x = shape[0] // 2 - 3, shape[1] // 2 + 4
    pixels = np.zeros((*shape, 3), dtype=np.uint8)
    pixels[y, x] = 255
    shown = prepare(Image.fromarray(pixels), preprocessing)[0]
    brightest = np.unravel_index(shown.argmax(), shown.shape)
    (found,) = points_in_view(np.array([[y + 0.5, x + 0.5]]), shape, preprocessing)
    assert np.abs(found - np.add(brightest, 0.5)).max() <= 1
