"""Copies of a picture as they come into datasets: recompressed, resized, mirrored, cropped, brighter."""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance

Change = Callable[[Image.Image, np.random.Generator], Image.Image]


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    """The image after it was written as JPEG and read again."""
    file = io.BytesIO()
    image.save(file, format="JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def resized(image: Image.Image, factor: float) -> Image.Image:
    width, height = image.size
    return image.resize((round(factor * width), round(factor * height)), Image.Resampling.LANCZOS)


def mirrored(image: Image.Image) -> Image.Image:
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def cropped(image: Image.Image, generator: np.random.Generator) -> Image.Image:
    """90 % of each side, from a random place."""
    width, height = image.size
    left, top = generator.uniform(0, 0.1, 2) * (width, height)
    return image.crop((round(left), round(top), round(left + 0.9 * width), round(top + 0.9 * height)))


CHANGES: dict[str, Change] = {
    "recompressed": lambda image, _: jpeg(image, 30),
    "half the size": lambda image, _: resized(image, 0.5),
    "twice the size": lambda image, _: resized(image, 2),
    "mirrored": lambda image, _: mirrored(image),
    "cropped by 10 %": cropped,
    "cropped and mirrored": lambda image, generator: mirrored(cropped(image, generator)),
    "brighter": lambda image, _: ImageEnhance.Brightness(image).enhance(1.4),
    "darker": lambda image, _: ImageEnhance.Brightness(image).enhance(0.6),
    "more contrast": lambda image, _: ImageEnhance.Contrast(image).enhance(1.4),
}
