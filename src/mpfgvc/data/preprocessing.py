"""Turn a photograph into the numbers that a tower expects; no torch.

One function, `prepare`, is used by evaluation, prediction and the runtime of
exported models, so all of them see the same numbers, bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Literal, get_args

import numpy as np
from PIL import Image

from mpfgvc.config import Resize
from mpfgvc.errors import ConfigError

Interpolation = Literal["bicubic", "bilinear", "lanczos", "nearest"]

_FILTERS = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "lanczos": Image.Resampling.LANCZOS,
    "nearest": Image.Resampling.NEAREST,
}
_ELONGATED = 4
"""An image is cropped before it is scaled if it is more than this many times as long as wide."""
_FILTER_REACH = 8
"""Pixels that a filter may look at beyond a crop, both sides together, at the scale of the result."""


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How test photographs are prepared; it is saved with every model."""

    image_size: tuple[int, int]
    """(height, width) in pixels of what the tower sees."""
    resize: Resize = "short"
    """short: scale until the photograph just covers the scaled size; squash: scale to exactly that size."""
    crop_ratio: float = 1.0
    """Share of the scaled size that the centre crop keeps. 0..1."""
    mean: tuple[float, float, float]
    """Subtracted from the red, green and blue values in 0..1."""
    std: tuple[float, float, float]
    """Divides them after that."""
    interpolation: Interpolation = "bicubic"
    """Filter of the scaling, always with antialiasing."""

    def __post_init__(self) -> None:
        _check(
            len(self.image_size) == 2 and min(self.image_size) > 0, "image_size", "two sizes above 0", self
        )
        _check(self.resize in get_args(Resize), "resize", "short or squash", self)
        _check(0 < self.crop_ratio <= 1, "crop_ratio", "above 0 and at most 1", self)
        _check(len(self.mean) == 3, "mean", "three numbers", self)
        _check(len(self.std) == 3 and min(self.std) > 0, "std", "three numbers above 0", self)
        _check(self.interpolation in _FILTERS, "interpolation", f"one of {', '.join(_FILTERS)}", self)

    @property
    def scaled_size(self) -> tuple[int, int]:
        """(height, width) that the photograph is scaled to before the centre crop."""
        height, width = self.image_size
        return round(height / self.crop_ratio), round(width / self.crop_ratio)


def prepare(image: Image.Image, preprocessing: Preprocessing) -> np.ndarray:
    """The normalised pixels of an RGB image: float32 (3, height, width)."""
    scaled = scale(_middle(image, preprocessing), preprocessing)
    return normalise(centre_crop(scaled, preprocessing.image_size), preprocessing)


def normalise(image: Image.Image | np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """`(pixels / 255 - mean) / std` of an RGB image or its (height, width, 3): float32 (3, height, width)."""
    pixels = np.asarray(image).transpose(2, 0, 1).astype(np.float32, order="C")
    pixels /= 255
    pixels -= np.asarray(preprocessing.mean, dtype=np.float32)[:, None, None]
    pixels /= np.asarray(preprocessing.std, dtype=np.float32)[:, None, None]
    return pixels


def scale(image: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    """The image scaled so that it covers `scaled_size`, or is exactly of that size with `squash`."""
    height, width = preprocessing.scaled_size
    if preprocessing.resize == "short":
        factor = max(height / image.height, width / image.width)
        height, width = max(height, int(image.height * factor)), max(width, int(image.width * factor))
    if image.size == (width, height):
        return image
    return image.resize((width, height), _FILTERS[preprocessing.interpolation])


def centre_crop(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The middle (height, width) pixels of an image that has at least as many."""
    height, width = size
    top, left = round((image.height - height) / 2), round((image.width - width) / 2)
    return image.crop((left, top, left + width, top + height))


def _middle(image: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    """The part of a very elongated image that the centre crop can show, so only that is scaled.

    Other images stay whole: cut off, they would be scaled by a factor that differs in its last digits.
    """
    if preprocessing.resize != "short" or max(image.size) <= _ELONGATED * min(image.size):
        return image
    height, width = preprocessing.scaled_size
    shrink = min(image.height / height, image.width / width)
    margin = _FILTER_REACH * max(1.0, shrink)
    return centre_crop(
        image, (_shown(image.height, height * shrink + margin), _shown(image.width, width * shrink + margin))
    )


def _shown(side: int, needed: float) -> int:
    """At least the needed pixels of a side, as odd or even as it is, so the middle stays the middle."""
    least = ceil(needed)
    return min(side, least + (side - least) % 2)


def _check(fine: bool, name: str, rule: str, preprocessing: Preprocessing) -> None:
    if not fine:
        raise ConfigError(f"preprocessing.{name} must be {rule}, got {getattr(preprocessing, name)}")
