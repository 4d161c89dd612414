"""Photographs whose size or shape is far from the rest."""

from pathlib import Path

from mpfgvc.data.doctor import unusual_shapes, unusual_sizes
from mpfgvc.data.headers import Header


def headers(**sizes: tuple[int, int]) -> dict[Path, Header]:
    usual = {f"usual{number}": (300, 400) for number in range(7)}
    return {
        Path(name): Header(height=height, width=width, digest="")
        for name, (height, width) in (usual | sizes).items()
    }


def test_a_size_is_unusual_from_four_times_the_median_on_in_either_direction() -> None:
    found = unusual_sizes(headers(huge=(1201, 1600), large=(1199, 1600), tiny=(74, 100), small=(76, 100)))
    assert [each.path for each in found] == ["huge", "tiny"]
    assert found[0].reason == "1600 x 1201, the usual mean side is 346"


def test_a_shape_is_unusual_when_it_is_much_wider_or_narrower_than_the_median() -> None:
    found = unusual_shapes(headers(wide=(100, 340), narrow=(400, 220), banner=(1000, 300)))
    assert [each.path for each in found] == ["wide", "banner"]


def test_without_photographs_nothing_is_unusual() -> None:
    assert unusual_sizes({}) == () == unusual_shapes({})
