"""Turn a photograph into the numbers that a tower expects; no torch.

One function, `prepare`, is used by evaluation, prediction and the runtime of
exported models, so all of them see the same numbers, bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

import numpy as np
from PIL import Image

from mpfgvc.errors import ConfigError

Interpolation = Literal["bicubic", "bilinear", "lanczos", "nearest"]
Resize = Literal["short", "squash"]

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

    def to_dict(self) -> dict[str, Any]:
        """A dictionary that JSON can hold and `from_dict` reads."""
        return {
            key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preprocessing:
        """The inverse of `to_dict`. Raises ConfigError for unknown or missing keys and bad values."""
        known = {field.name for field in fields(cls)}
        if unknown := set(values) - known:
            raise ConfigError(
                f"preprocessing has no {', '.join(sorted(unknown))}; it has {', '.join(sorted(known))}"
            )
        given: dict[str, Any] = dict(values)
        for name in ("image_size", "mean", "std"):
            given[name] = tuple(given.get(name, ()))
        try:
            return cls(**given)
        except TypeError as error:
            raise ConfigError(f"preprocessing is not complete: {error}") from None


def prepare(image: Image.Image, preprocessing: Preprocessing) -> np.ndarray:
    """The normalised pixels of an RGB image: float32 (3, height, width)."""
    return normalise(centre_crop(scale(image, preprocessing), preprocessing.image_size), preprocessing)


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


def _check(fine: bool, name: str, rule: str, preprocessing: Preprocessing) -> None:
    if not fine:
        raise ConfigError(f"preprocessing.{name} must be {rule}, got {getattr(preprocessing, name)}")
