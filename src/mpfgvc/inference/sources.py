"""What a caller may hand over as an image or as many photographs, and how it is read. No torch is imported.

    str, Path        a file
    Pillow image     open, of any mode
    array, tensor    (height, width), (3, height, width) or (height, width, 3); uint8, or floats in 0..1

A shape that fits both orders, such as (3, 64, 3), is taken as (3, height, width), which is torch's order.
Several images come as any iterable of these, or as one array or tensor of four dimensions, whose first
counts the images.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from mpfgvc.data.images import as_image, read_image
from mpfgvc.data.samples import Photograph
from mpfgvc.errors import DataError, one_line

if TYPE_CHECKING:
    from torch import Tensor

    ImageSource = str | Path | Image.Image | np.ndarray | Tensor
    """One image: a path, a Pillow image, or an array or tensor of its pixels."""

KINDS = "a path, a Pillow image, an array or a tensor"


def as_images(images: ImageSource | Iterable[ImageSource]) -> tuple[list[ImageSource], bool]:
    """The images, and whether it was one image, not several. Raises DataError for anything else."""
    if _is_one(images):
        return [images], True  # type: ignore[list-item]
    if isinstance(images, bytes | bytearray | Mapping) or not isinstance(images, Iterable):
        raise DataError(f"an image must be {KINDS}, got {_kind_of(images)}")
    found = list(images)
    for index, image in enumerate(found):
        if not _is_one(image):
            raise DataError(f"image {index} of {len(found)} must be {KINDS}, got {_kind_of(image)}")
    return found, False


def open_image(source: ImageSource, *, at_least: tuple[int, int]) -> Image.Image:
    """The image: RGB and upright. A file is decoded at `at_least` (height, width) or more.

    Raises DataError for what cannot be read.
    """
    if _is_tensor(source):
        source = _to_array(source)  # type: ignore[arg-type]
    if isinstance(source, str | Path):
        return read_image(source, at_least=at_least)
    if isinstance(source, np.ndarray):
        channels_first = source.ndim == 3 and source.shape[0] == 3
        return as_image(source.transpose(1, 2, 0) if channels_first else source)
    if isinstance(source, Image.Image):
        _check_open(source)
        return as_image(source)
    raise DataError(f"an image must be {KINDS}, got {_kind_of(source)}")


def name_of(index: int, source: object) -> str:
    """What errors call an image."""
    return str(source) if isinstance(source, str | Path) else f"image {index}"


def as_photographs(items: Iterable[str | Path | Photograph], method: str) -> Iterator[Photograph]:
    """The photographs of an iterable of paths or of photographs; `method` is what errors call the caller.

    Raises DataError at once for what is no iterable of them, and later for a wrong item of an iterator.
    """
    if isinstance(items, str | Path | bytes) or not isinstance(items, Iterable):
        raise DataError(f"{method} takes several paths, such as a list, got {items!r:.80}")

    def checked(item: str | Path | Photograph) -> Photograph:
        if isinstance(item, str | Path):
            return Photograph(path=Path(item))
        if not isinstance(item, Photograph):
            raise DataError(f"{method} takes paths, got {item!r:.80}")
        return item

    return iter([checked(item) for item in items]) if isinstance(items, list | tuple) else map(checked, items)


def _is_one(image: object) -> bool:
    if isinstance(image, np.ndarray) or _is_tensor(image):
        return image.ndim != 4  # type: ignore[attr-defined, no-any-return]
    return isinstance(image, str | Path | Image.Image)


def _is_tensor(thing: object) -> bool:
    torch = sys.modules.get("torch")  # without it there are no tensors
    return torch is not None and isinstance(thing, torch.Tensor)


def _to_array(tensor: Tensor) -> np.ndarray:
    try:
        tensor = tensor.detach().cpu()
        return (tensor.float() if tensor.is_floating_point() else tensor).numpy()
    except (NotImplementedError, TypeError, RuntimeError) as error:  # meta, sparse, quantised
        raise DataError(f"an image tensor must be dense and hold values: {one_line(error)}") from None


def _kind_of(thing: object) -> str:
    return "None" if thing is None else type(thing).__name__


def _check_open(image: Image.Image) -> None:
    try:
        image.load()
    except Exception as error:  # a closed or broken file leaves the decoders as almost any exception
        hint = "keep its file open until the prediction, or give its path"
        name = getattr(image, "filename", "") or "the given image"
        raise DataError(f"cannot read {name}: {one_line(error)}; {hint}") from None
