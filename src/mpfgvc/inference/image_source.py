"""What a caller may hand over as an image, and how each kind is read.

As plain_source.py says, and besides:

    tensor           (height, width), (3, height, width) or (height, width, 3); uint8, or floats in 0..1

A shape that fits both orders, such as (3, 64, 3), is taken as (3, height, width), which is
torch's order. Several images come as any iterable of these, or as one array or tensor of four
dimensions, whose first counts the images.
"""

from collections.abc import Iterable

import numpy as np
from PIL import Image
from torch import Tensor

from mpfgvc.errors import DataError, one_line
from mpfgvc.inference.plain_source import PlainImage, is_one_plain_image, open_plain_image, several_of

ImageSource = PlainImage | Tensor
"""One image: a path, a Pillow image, or an array or tensor of its pixels."""
_KINDS = "a path, a Pillow image, an array or a tensor"


def is_one_image(images: ImageSource | Iterable[ImageSource]) -> bool:
    """Whether this is one image, not several."""
    if isinstance(images, Tensor):
        return images.ndim != 4
    return is_one_plain_image(images)  # type: ignore[arg-type]


def several_images(images: Iterable[ImageSource]) -> list[ImageSource]:
    """The images of an iterable. Raises DataError if one of them, or the iterable, is of another kind."""
    return several_of(images, kind=ImageSource, words=_KINDS)


def open_image(source: ImageSource, *, at_least: tuple[int, int]) -> Image.Image:
    """The image: RGB and upright. A file is decoded at `at_least` (height, width) or more.

    Raises DataError for what cannot be read.
    """
    plain = _to_array(source) if isinstance(source, Tensor) else source
    return open_plain_image(plain, at_least=at_least, words=_KINDS)


def _to_array(tensor: Tensor) -> np.ndarray:
    try:
        tensor = tensor.detach().cpu()
        return (tensor.float() if tensor.is_floating_point() else tensor).numpy()
    except (NotImplementedError, TypeError, RuntimeError) as error:  # meta, sparse, quantised
        raise DataError(f"an image tensor must be dense and hold values: {one_line(error)}") from None
