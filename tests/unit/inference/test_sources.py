"""Whatever holds an image is read alike; what is not an image is refused in one line."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mpfgvc.errors import DataError
from mpfgvc.inference.sources import as_images, open_image

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
CHANNELS_FIRST = np.ascontiguousarray(PIXELS.transpose(2, 0, 1))


def _opened(source: Any) -> np.ndarray:
    return np.asarray(open_image(source, at_least=(9, 9)))


@pytest.mark.parametrize(
    "source",
    [
        PIXELS,
        CHANNELS_FIRST,
        PIXELS / 255,
        Image.fromarray(PIXELS),
        torch.from_numpy(PIXELS),
        torch.from_numpy(CHANNELS_FIRST),
        torch.from_numpy(CHANNELS_FIRST) / 255,
        (torch.from_numpy(CHANNELS_FIRST) / 255).double().requires_grad_(),
    ],
)
def test_every_kind_of_source_shows_the_same_pixels(source: Any) -> None:
    assert (_opened(source) == PIXELS).all()
    assert as_images(source)[1]


def test_gray_tensors_and_low_precision_are_read() -> None:
    gray = torch.from_numpy(PIXELS[..., 0])
    assert (_opened(gray) == PIXELS[..., :1]).all()
    assert np.abs(_opened((gray / 255).bfloat16()).astype(int) - PIXELS[..., :1]).max() <= 1


def test_a_shape_that_fits_both_orders_is_taken_as_channels_first() -> None:
    image = np.random.default_rng(1).integers(0, 256, (3, 5, 3), dtype=np.uint8)
    assert (_opened(torch.from_numpy(image)) == image.transpose(1, 2, 0)).all()


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (None, "an image must be a path, a Pillow image, an array or a tensor, got None"),
        (b"bytes", "got bytes"),
        ([PIXELS], "got list"),
        (torch.zeros(1, 8, 8), "must be (height, width) or (height, width, 3)"),
        (torch.full((3, 8, 8), 255.0), "must be in 0..1, got 255..255"),
        (torch.full((3, 8, 8), float("nan")), "must be in 0..1"),
        (torch.zeros(3, 8, 8, dtype=torch.int64), "must be uint8"),
        (np.zeros((2, 3, 8, 8)), "must be (height, width)"),
        (torch.zeros(3, 8, 8, device="meta"), "must be dense and hold values"),
        (torch.zeros(8, 8).to_sparse(), "must be dense and hold values"),
    ],
)
def test_what_is_no_image_is_refused_in_one_line(source: Any, reason: str) -> None:
    with pytest.raises(DataError) as refusal:
        open_image(source, at_least=(9, 9))
    assert reason in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_closed_image_is_refused_by_its_file(tmp_path: Path) -> None:
    file = tmp_path / "bird.png"
    Image.fromarray(PIXELS).save(file)
    with Image.open(file) as image:
        pass
    with pytest.raises(DataError, match=r"cannot read .*bird\.png: .*; keep its file open"):
        open_image(image, at_least=(9, 9))


@pytest.mark.parametrize("kind", [list, tuple, iter, lambda images: (image for image in images)])
def test_several_images_come_in_any_iterable(kind: type) -> None:
    images = [PIXELS, "a.jpg"]
    assert as_images(kind(images)) == (images, False)
    assert as_images(kind([])) == ([], False)


@pytest.mark.parametrize(
    ("images", "reason"),
    [
        (None, "got None"),
        (b"a.jpg", "got bytes"),
        ({"a.jpg": 1}, "got dict"),
        (["a.jpg", None], "image 1 of 2 must be a path, a Pillow image, an array or a tensor, got None"),
    ],
)
def test_what_holds_no_images_is_refused_before_one_is_opened(images: object, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        as_images(images)  # type: ignore[arg-type]
