"""The photographs of a page, within their bytes, and the axis of a chart."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from mpfgvc.pages import Album, Scale


def noise(seed: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (300, 200, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def test_a_photograph_is_there_once_and_small() -> None:
    album = Album(most_bytes=10**6, side=60)
    address = album.add("a", lambda: noise(0))
    assert album.add("a", lambda: noise(1)) == address
    assert album.addresses == {"a": address}
    picture = Image.open(io.BytesIO(base64.b64decode(str(address).removeprefix("data:image/jpeg;base64,"))))
    assert picture.size == (40, 60)


def test_what_has_no_room_or_cannot_be_read_is_counted() -> None:
    album = Album(most_bytes=1, side=60)
    assert album.add("broken", lambda: None) is None
    assert [album.add(key, lambda: noise(0)) is None for key in "abc"] == [False, True, True]
    assert (list(album.addresses), album.left_out, album.unreadable) == (["a"], {"b", "c"}, {"broken"})


@pytest.mark.parametrize(("low", "high"), [(0, 1), (41.2, 43.9), (-0.003, 0.02), (0, 730)])
def test_an_axis_has_a_few_round_marks_inside_it(low: float, high: float) -> None:
    ticks = Scale(low, high).ticks
    assert 4 <= len(ticks) <= 11
    assert low <= min(ticks) < max(ticks) <= high
