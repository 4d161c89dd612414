"""Training and test transforms."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode, v2

from mpfgvc.config import AugmentConfig
from mpfgvc.data.preprocessing import Preprocessing, prepare
from mpfgvc.data.transforms import eval_transform, train_transform

PREPROCESSING = Preprocessing(image_size=(20, 24), crop_ratio=0.8, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))


@pytest.fixture
def image():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))


def test_the_test_transform_gives_what_exported_models_see(image):
    transform = eval_transform(PREPROCESSING)
    assert torch.equal(transform(image), torch.from_numpy(prepare(image, PREPROCESSING)))
    assert transform.at_least == (50, 60)  # twice the scaled size


@pytest.mark.parametrize("crop", ["resized", "random"])
def test_a_training_photograph_follows_from_the_seed_and_has_the_shape_of_a_test_one(image, crop):
    transform = train_transform(PREPROCESSING, AugmentConfig(crop=crop))
    torch.manual_seed(1)
    first, second = transform(image), transform(image)
    torch.manual_seed(1)
    again = transform(image)
    assert first.shape == (3, 20, 24)
    assert first.dtype == torch.float32
    assert torch.equal(first, again)
    assert not torch.equal(first, second)


def test_without_randomness_training_shows_what_the_test_shows(image):
    square = image.crop((0, 0, 40, 40))
    whole = Preprocessing(image_size=(20, 20), mean=PREPROCESSING.mean, std=PREPROCESSING.std)
    for augment in (AugmentConfig(crop="random", flip=0), AugmentConfig(crop="random", flip=1)):
        shown = train_transform(whole, augment)(square)
        expected = eval_transform(whole)(square)
        assert torch.equal(shown, expected.flip(-1) if augment.flip else expected)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "nearest", "lanczos"])
def test_a_resized_crop_is_torchvisions_own_on_the_pillow_image(interpolation):
    noise = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    image = Image.fromarray(noise).resize((240, 180), Image.Resampling.BICUBIC)
    plain = Preprocessing(image_size=(56, 48), mean=(0, 0, 0), std=(1 / 255,) * 3, interpolation=interpolation)
    transform = train_transform(plain, AugmentConfig(min_scale=0.4, flip=0))
    reference = v2.RandomResizedCrop((56, 48), (0.4, 1), interpolation=InterpolationMode(interpolation))
    for seed in range(5):
        torch.manual_seed(seed)
        shown = transform(image)
        torch.manual_seed(seed)
        expected = torch.from_numpy(np.array(reference(image))).permute(2, 0, 1)
        assert (shown - expected).abs().max() <= 1.001


@pytest.mark.parametrize(
    ("augment", "expected"), [(AugmentConfig(min_scale=0.75), (27, 32)), (AugmentConfig(crop="random"), (50, 60))]
)
def test_a_photograph_is_decoded_large_enough_for_its_smallest_crop(augment, expected):
    assert train_transform(PREPROCESSING, augment).at_least == expected
