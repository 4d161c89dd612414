"""From an RGB image to the tensor that a tower sees: random for training, fixed for the test.

Random transforms draw from torch's global CPU generator, as torchvision's all
do; the loader seeds it for each photograph and restores it afterwards.

Test photographs are scaled by Pillow, so that an exported model needs no torch to see the
same numbers. Training ones are scaled as uint8 tensors: the same crops and, up to one level
of 255, the same pixels, and faster.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import ceil, sqrt
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from mpfgvc.config import AugmentConfig
from mpfgvc.data.preprocessing import Preprocessing, normalise, prepare, scale

_Steps = Callable[[Image.Image], Tensor]
_TENSOR_FILTERS = ("bicubic", "bilinear")
"""What torchvision does to a tensor as Pillow does it to an image; it has no lanczos, and another nearest."""
_NARROWEST = 3 / 4  # the most elongated shape of a random resized crop, torchvision's default


@dataclass(frozen=True, kw_only=True)
class Transform:
    """An RGB image in, a float32 tensor (3, height, width) out.

    `image_size` is (height, width); `at_least` the (height, width) that the photograph
    must be decoded at so that nothing which the transform could show is lost.
    """

    apply: Callable[[Image.Image], Tensor]
    image_size: tuple[int, int]
    at_least: tuple[int, int]

    def __call__(self, image: Image.Image) -> Float[Tensor, "3 height width"]:
        """The normalised pixels."""
        return self.apply(image)


def eval_transform(preprocessing: Preprocessing) -> Transform:
    """Scale, crop the centre, normalise: always the same numbers for the same image."""
    return Transform(
        apply=partial(_prepare, preprocessing=preprocessing),
        image_size=preprocessing.image_size,
        at_least=preprocessing.at_least,
    )


def train_transform(preprocessing: Preprocessing, augment: AugmentConfig) -> Transform:
    """Crop and mirror at random, then normalise as for the test."""
    height, width = preprocessing.image_size
    steps = [*_crop(preprocessing, augment), v2.RandomHorizontalFlip(augment.flip)]
    shrink = sqrt(augment.min_scale * _NARROWEST) if augment.crop == "resized" else preprocessing.crop_ratio / 2
    return Transform(
        apply=partial(_augment, steps=v2.Compose(steps), preprocessing=preprocessing),
        image_size=preprocessing.image_size,
        at_least=(ceil(height / shrink), ceil(width / shrink)),
    )


def _crop(preprocessing: Preprocessing, augment: AugmentConfig) -> list[Callable[[Any], Any]]:
    """From an RGB image to the uint8 tensor (3, height, width) of its random crop."""
    size = list(preprocessing.image_size)
    if augment.crop == "random":
        return [partial(scale, preprocessing=preprocessing), _pixels, v2.RandomCrop(size)]
    interpolation = InterpolationMode(preprocessing.interpolation)
    crop = v2.RandomResizedCrop(
        size, scale=(augment.min_scale, 1), ratio=(_NARROWEST, 1 / _NARROWEST), interpolation=interpolation
    )
    return [_pixels, crop] if preprocessing.interpolation in _TENSOR_FILTERS else [crop, _pixels]


def _pixels(image: Image.Image) -> Tensor:
    """uint8 (3, height, width), with a pixel's channels side by side in memory: so scaling is fastest."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def _prepare(image: Image.Image, preprocessing: Preprocessing) -> Tensor:
    return torch.from_numpy(prepare(image, preprocessing))


def _augment(image: Image.Image, *, steps: _Steps, preprocessing: Preprocessing) -> Tensor:
    return torch.from_numpy(normalise(steps(image).permute(1, 2, 0).numpy(), preprocessing))
