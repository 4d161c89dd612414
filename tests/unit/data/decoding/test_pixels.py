"""Bit depth: what a gray value of many bits means."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from mpfgvc.data.decoding.pixels import Depth, to_rgb
from mpfgvc.data.images import as_image, read_image

MIN_VALUE, MAX_VALUE, NO_DATA = 280, 281, 42113


def grays(image):
    """The gray levels of the first row."""
    pixels = np.asarray(image)
    assert (pixels[..., 0] == pixels[..., 1]).all()
    return pixels[0, :, 0].tolist()


def read_tiff(path, values, **options):
    Image.fromarray(values).save(path / "a.tiff", **options)
    return grays(read_image(path / "a.tiff"))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 128, 255], [0, 128, 255]),  # 8 bits
        ([0, 2048, 4095], [0, 128, 255]),  # 12 bits
        ([0, 4096, 65535], [0, 16, 255]),
        ([0, 65536, 131072], [0, 128, 255]),
        ([-100, 0, 100], [0, 128, 255]),
    ],
)
def test_whole_numbers_have_as_many_bits_as_the_largest_needs(tmp_path, values, expected):
    assert read_tiff(tmp_path, np.array([values], dtype=np.int32)) == expected
    if values[0] >= 0 and values[-1] <= 65535:
        deep = np.array([values], dtype=np.uint16)
        assert read_tiff(tmp_path, deep) == expected
        Image.fromarray(deep).save(tmp_path / "a.png")
        assert grays(read_image(tmp_path / "a.png")) == expected
        assert grays(as_image(deep)) == expected
        assert grays(as_image(Image.fromarray(deep))) == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.25, 0.5], [0, 64, 128]),
        ([0.0, 64.0, 128.0], [0, 64, 128]),
        ([1000.0, 1500.0, 2000.0], [0, 128, 255]),
        ([np.nan, 0.0, 0.5], [0, 0, 128]),
        ([np.inf, -np.inf, 1.0], [0, 0, 255]),
        ([-9999.0, 100.0, 200.0], [0, 100, 200]),
        ([-3.4028234663852886e38, 0.5, 1.0], [0, 128, 255]),
        ([np.nan, np.nan, np.nan], [0, 0, 0]),
    ],
)
def test_floats_keep_a_known_range_and_what_is_no_number_becomes_black(tmp_path, values, expected):
    assert read_tiff(tmp_path, np.array([values], dtype=np.float32)) == expected


def test_what_a_tiff_says_of_its_values_comes_first(tmp_path):
    values = np.array([[100, 200, 300]], dtype=np.uint16)
    assert read_tiff(tmp_path, values, tiffinfo={MAX_VALUE: 1000}) == [26, 51, 76]
    assert read_tiff(tmp_path, values, tiffinfo={MIN_VALUE: 100, MAX_VALUE: 300}) == [0, 128, 255]
    assert read_tiff(tmp_path, values, tiffinfo={MAX_VALUE: 250}) == [6, 12, 19]  # its values say otherwise
    assert read_tiff(tmp_path, values, tiffinfo={NO_DATA: "300"}) == [100, 200, 0]


def test_an_unsigned_tiff_of_32_bits_has_no_negative_values():
    values = np.array([[0, 2**31, 2**32 - 1]], dtype=np.uint32).view(np.int32)
    assert grays(to_rgb(Image.fromarray(values), Depth(unsigned=True))) == [0, 128, 255]


def png(values, *, color=0, extra=b""):
    """A 16-bit PNG of one row."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    row = np.array(values, dtype=">u2")
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", len(values), 1, 16, color, 0, 0, 0))
    said = chunk(b"sBIT", extra) if extra else b""
    body = chunk(b"IDAT", zlib.compress(b"\0" + row.tobytes())) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + said + body


def test_a_png_that_counts_its_bits_is_believed(tmp_path):
    (tmp_path / "a.png").write_bytes(png([0, 256, 1023], extra=b"\x0a"))
    assert grays(read_image(tmp_path / "a.png")) == [0, 64, 255]


@pytest.mark.parametrize(
    ("colors", "expected"),
    [
        ([[0, 2048, 4095], [16, 4095, 1024]], [[0, 128, 255], [1, 255, 64]]),
        ([[0, 128, 255], [64, 1, 2]], [[0, 128, 255], [64, 1, 2]]),
        ([[0, 4096, 65535], [256, 511, 512]], [[0, 16, 255], [1, 1, 2]]),
    ],
)
def test_colors_of_16_bits_have_as_many_as_the_largest_needs(tmp_path, colors, expected):
    (tmp_path / "a.png").write_bytes(png(colors, color=2))
    assert np.asarray(read_image(tmp_path / "a.png"))[0].tolist() == expected
    alpha = [[*color, 65535] for color in colors]
    (tmp_path / "b.png").write_bytes(png(alpha, color=6))
    assert np.asarray(read_image(tmp_path / "b.png"))[0].tolist() == expected
    write_rgb_tiff(tmp_path / "c.tiff", np.array([colors], dtype="<u2"))
    assert np.asarray(read_image(tmp_path / "c.tiff"))[0].tolist() == expected


def write_rgb_tiff(path, pixels):
    """An uncompressed little-endian TIFF with 16 bits a channel, which Pillow cannot write."""
    height, width, _ = pixels.shape
    start = 8 + 2 + 12 * 9 + 4
    entries = [
        (256, 3, 1, width), (257, 3, 1, height), (258, 3, 3, start), (259, 3, 1, 1), (262, 3, 1, 2),
        (273, 4, 1, start + 6), (277, 3, 1, 3), (278, 3, 1, height), (279, 4, 1, pixels.nbytes),
    ]  # fmt: skip
    table = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    head = struct.pack("<2sHIH", b"II", 42, 8, len(entries)) + table + bytes(4)
    path.write_bytes(head + struct.pack("<3H", 16, 16, 16) + pixels.tobytes())


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "L", "P", "1", "CMYK", "I;16", "F"])
def test_reducing_in_strips_equals_reducing_the_whole(mode):
    noise = np.random.default_rng(0).integers(0, 256, (1501, 701, 4), dtype=np.uint8)
    if mode in ("I;16", "F"):
        image = Image.fromarray(noise[..., 0].astype(np.uint16 if mode == "I;16" else np.float32) * 257)
    elif mode == "LA":
        image = Image.merge("LA", [Image.fromarray(noise[..., 0]), Image.fromarray(noise[..., 1])])
    else:
        base = Image.fromarray(noise)
        image = base if mode == "RGBA" else base.convert("RGB").convert(mode)
    whole = to_rgb(image)
    assert (whole.mode, whole.size) == ("RGB", (701, 1501))
    assert np.array_equal(np.asarray(to_rgb(image, factor=3)), np.asarray(whole.reduce(3)))
