"""What a caller may hand over as an image, and how each kind is read.

    str, Path        a file
    Pillow image     open, of any mode
    array, tensor    (height, width), (3, height, width) or (height, width, 3); uint8, or floats in 0..1

A shape that fits both orders, such as (3, 64, 3), is taken as (3, height, width), which is
torch's order. Several images come as any iterable of these, or as one array or tensor of four
dimensions, whose first counts the images.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from mpfgvc.data.images import as_image, read_image
from mpfgvc.errors import DataError, one_line

ImageSource = str | Path | Image.Image | np.ndarray | Tensor
"""One image: a path, a Pillow image, or an array or tensor of its pixels."""
_KINDS = "a path, a Pillow image, an array or a tensor"


def is_one_image(images: ImageSource | Iterable[ImageSource]) -> bool:
    """Whether this is one image, not several."""
    if isinstance(images, np.ndarray | Tensor):
        return images.ndim != 4
    return isinstance(images, str | Path | Image.Image)


def several_images(images: Iterable[ImageSource]) -> list[ImageSource]:
    """The images of an iterable. Raises DataError if one of them, or the iterable, is of another kind."""
    if isinstance(images, bytes | bytearray | Mapping) or not isinstance(images, Iterable):
        raise DataError(f"an image must be {_KINDS}, got {_kind(images)}")
    found = list(images)
    for place, image in enumerate(found):
        if not isinstance(image, ImageSource):
            raise DataError(f"image {place} of {len(found)} must be {_KINDS}, got {_kind(image)}")
    return found


def open_image(source: ImageSource, *, at_least: tuple[int, int]) -> Image.Image:
    """The image: RGB and upright. A file is decoded at `at_least` (height, width) or more.

    Raises DataError for what cannot be read.
    """
    if isinstance(source, str | Path):
        return read_image(source, at_least=at_least)
    if isinstance(source, Tensor):
        return as_image(_height_width_channels(_to_array(source)))
    if isinstance(source, np.ndarray):
        return as_image(_height_width_channels(source))
    if isinstance(source, Image.Image):
        _refuse_closed(source)
        return as_image(source)
    raise DataError(f"an image must be {_KINDS}, got {_kind(source)}")


def _to_array(tensor: Tensor) -> np.ndarray:
    try:
        tensor = tensor.detach().cpu()
        return (tensor.float() if tensor.is_floating_point() else tensor).numpy()
    except (NotImplementedError, TypeError, RuntimeError) as error:  # meta, sparse, quantised
        raise DataError(f"an image tensor must be dense and hold values: {one_line(error)}") from None


def _height_width_channels(array: np.ndarray) -> np.ndarray:
    """The array with its channels last; what is not an image stays as it is, and is refused later."""
    return array.transpose(1, 2, 0) if array.ndim == 3 and array.shape[0] == 3 else array


def _refuse_closed(image: Image.Image) -> None:
    try:
        image.load()
    except Exception as error:  # a closed or broken file leaves the decoders as almost any exception
        hint = "keep its file open until the prediction, or give its path"
        name = getattr(image, "filename", "") or "the given image"
        raise DataError(f"cannot read {name}: {one_line(error)}; {hint}") from None


def _kind(thing: object) -> str:
    return "None" if thing is None else type(thing).__name__
