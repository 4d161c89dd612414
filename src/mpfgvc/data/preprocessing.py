"""Turn a photograph into the numbers that a tower expects; no torch.

One function, `prepare`, is used by evaluation, prediction and the runtime of
exported models, so all of them see the same numbers, bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mpfgvc.errors import ConfigError
from mpfgvc.terms import Resize

Interpolation = Literal["bicubic", "bilinear", "lanczos", "nearest"]

_FILTERS = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "lanczos": Image.Resampling.LANCZOS,
    "nearest": Image.Resampling.NEAREST,
}


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
        _check(len(self.image_size) == 2 and min(self.image_size) > 0, "image_size", "two sizes above 0", self)
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

    @property
    def at_least(self) -> tuple[int, int]:
        """(height, width) that a photograph must be decoded at, so that nothing which could show is lost."""
        height, width = self.scaled_size
        return 2 * height, 2 * width


def prepare(image: Image.Image, preprocessing: Preprocessing) -> np.ndarray:
    """The normalised pixels of an RGB image: float32 (3, height, width)."""
    return normalise(prepared_pixels(image, preprocessing), preprocessing)


def prepared_pixels(image: Image.Image, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """The pixels that are normalised, which an exported model does itself: uint8 (height, width, 3)."""
    return np.asarray(centre_crop(scale(image, preprocessing), preprocessing.image_size))


def normalise(image: Image.Image | np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """`(pixels / 255 - mean) / std` of an RGB image or its (height, width, 3): float32 (3, height, width)."""
    pixels = np.asarray(image).transpose(2, 0, 1).astype(np.float32, order="C")
    pixels /= 255
    pixels -= np.asarray(preprocessing.mean, dtype=np.float32)[:, None, None]
    pixels /= np.asarray(preprocessing.std, dtype=np.float32)[:, None, None]
    return pixels


def scale(image: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    """The image scaled so that it covers `scaled_size`, or is exactly of that size with `squash`."""
    height, width = _scaled_shape((image.height, image.width), preprocessing)
    if image.size == (width, height):
        return image
    return image.resize((width, height), _FILTERS[preprocessing.interpolation])


def centre_crop(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The middle (height, width) pixels of an image that has at least as many."""
    height, width = size
    top, left = _corner((image.height, image.width), size)
    return image.crop((left, top, left + width, top + height))


def points_in_view(points: np.ndarray, shape: tuple[int, int], preprocessing: Preprocessing) -> NDArray[np.float64]:
    """Where `prepare` puts points of a photograph: (points, 2) of y and x, in pixels from its top left.

    `shape` is the (height, width) of the upright photograph. Points that the crop cuts away are below 0, or
    at or above `image_size`.
    """
    scaled = _scaled_shape(shape, preprocessing)
    return points * np.divide(scaled, shape) - np.array(_corner(scaled, preprocessing.image_size), dtype=np.float64)


def view_box(shape: tuple[int, int], preprocessing: Preprocessing) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) in pixels of the part of a photograph that `prepare` keeps.

    `shape` is the (height, width) of the upright photograph.
    """
    first, last = points_in_view(np.array([[0, 0], shape], dtype=np.float64), shape, preprocessing)
    step = (last - first) / np.array(shape)
    top, left = np.maximum(0, np.round(-first / step))
    bottom, right = np.minimum(shape, np.round((np.array(preprocessing.image_size) - first) / step))
    return int(left), int(top), max(int(right), int(left) + 1), max(int(bottom), int(top) + 1)


def _scaled_shape(shape: tuple[int, int], preprocessing: Preprocessing) -> tuple[int, int]:
    """(height, width) that `scale` gives an image of this shape."""
    height, width = preprocessing.scaled_size
    if preprocessing.resize == "squash":
        return height, width
    factor = max(height / shape[0], width / shape[1])
    return max(height, int(shape[0] * factor)), max(width, int(shape[1] * factor))


def _corner(shape: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """(top, left) of the middle part of this size."""
    return round((shape[0] - size[0]) / 2), round((shape[1] - size[1]) / 2)


def _check(fine: bool, name: str, rule: str, preprocessing: Preprocessing) -> None:
    if not fine:
        raise ConfigError(f"preprocessing.{name} must be {rule}, got {getattr(preprocessing, name)}")
