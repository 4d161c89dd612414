"""The photographs of a page, within their bytes."""

import base64
import io

import numpy as np
from PIL import Image

from mpfgvc.pages import Album


def noise(seed: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (300, 200, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def test_a_photograph_is_there_once_and_small() -> None:
    album = Album(most_bytes=10**6, side=60)
    assert album.add("a", lambda: noise(0))
    assert album.add("a", lambda: noise(1))
    (address,) = album.addresses.values()
    picture = Image.open(io.BytesIO(base64.b64decode(address.removeprefix("data:image/jpeg;base64,"))))
    assert (picture.size, album.places()) == ((40, 60), {"a": 0})


def test_what_has_no_room_or_cannot_be_read_is_counted() -> None:
    album = Album(most_bytes=1, side=60)
    assert [album.add(key, lambda: noise(0)) for key in "abc"] == [True, False, False]
    assert (list(album.addresses), album.left_out, album.unreadable) == (["a"], {"b", "c"}, set())
    album = Album(most_bytes=1, side=60)
    assert [album.add("a", lambda: None) for _ in range(2)] == [False, False]
    assert album.unreadable == {"a"}
