"""What may be handed over as an image where there is no torch, and how each kind is read.

    str, Path        a file
    Pillow image     open, of any mode
    array            (height, width), (3, height, width) or (height, width, 3); uint8, or floats in 0..1

Several images come as any iterable of these, or as one array of four dimensions, whose first counts the
images. image_source.py adds tensors.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mpfgvc.data.images import as_image, read_image
from mpfgvc.errors import DataError, one_line

PlainImage = str | Path | Image.Image | np.ndarray
"""One image: a path, a Pillow image, or an array of its pixels."""
PLAIN_KINDS = "a path, a Pillow image or an array"


def is_one_plain_image(images: PlainImage | Iterable[PlainImage]) -> bool:
    """Whether this is one image, not several."""
    if isinstance(images, np.ndarray):
        return images.ndim != 4
    return isinstance(images, str | Path | Image.Image)


def several_of(images: Iterable[object], *, kind: Any = PlainImage, words: str = PLAIN_KINDS) -> list[Any]:
    """The images of an iterable. Raises DataError if one of them, or the iterable, is of another kind."""
    if isinstance(images, bytes | bytearray | Mapping) or not isinstance(images, Iterable):
        raise DataError(f"an image must be {words}, got {kind_of(images)}")
    found = list(images)
    for place, image in enumerate(found):
        if not isinstance(image, kind):
            raise DataError(f"image {place} of {len(found)} must be {words}, got {kind_of(image)}")
    return found


def open_plain_image(
    source: PlainImage, *, at_least: tuple[int, int], words: str = PLAIN_KINDS
) -> Image.Image:
    """The image: RGB and upright. A file is decoded at `at_least` (height, width) or more.

    Raises DataError for what cannot be read.
    """
    if isinstance(source, str | Path):
        return read_image(source, at_least=at_least)
    if isinstance(source, np.ndarray):
        return as_image(_height_width_channels(source))
    if isinstance(source, Image.Image):
        _refuse_closed(source)
        return as_image(source)
    raise DataError(f"an image must be {words}, got {kind_of(source)}")


def name_of(place: int, source: object) -> str:
    """What errors call an image."""
    return str(source) if isinstance(source, str | Path) else f"image {place}"


def kind_of(thing: object) -> str:
    """The type of a thing, for errors."""
    return "None" if thing is None else type(thing).__name__


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
