"""Large images, decoded strip by strip, have the pixels that they have when decoded whole."""

import io

import numpy as np
import pytest
from PIL import Image

from mpfgvc.data.decoding.photo_file import open_photo
from mpfgvc.data.decoding.pixels import NOTHING_SAID, join_strips, to_rgb
from mpfgvc.data.decoding.strips import strips_of
from mpfgvc.data.images import read_image
from mpfgvc.errors import DataError

SIZE = (1301, 1103)


def picture(mode):
    """Smooth shapes with noise, so that a PNG makes use of all its filters."""
    width, height = SIZE
    small = np.random.default_rng(0).integers(0, 200, (9, 11, 4), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(small).resize(SIZE, Image.Resampling.BICUBIC))
    noise = np.random.default_rng(1).integers(0, 40, (height, width, 4), dtype=np.uint8)
    pixels = np.where(smooth > 100, smooth + noise, smooth)
    if mode in ("I;16", "F"):
        return Image.fromarray(pixels[..., 0].astype(np.uint16 if mode == "I;16" else np.float32) * 200)
    if mode == "LA":
        return Image.merge("LA", [Image.fromarray(pixels[..., 0]), Image.fromarray(pixels[..., 1])])
    base = Image.fromarray(pixels)
    return base if mode == "RGBA" else base.convert("RGB").convert(mode)


def check_strips(content):
    with open_photo(io.BytesIO(content)) as file:
        image = Image.open(io.BytesIO(content))
        strips = strips_of(image, file, 3)
        assert strips is not None
        joined = join_strips(strips, image.size, NOTHING_SAID, factor=3)
    whole = to_rgb(Image.open(io.BytesIO(content)), factor=3)
    assert np.array_equal(np.asarray(joined), np.asarray(whole))


def saved(mode, kind, **options):
    file = io.BytesIO()
    picture(mode).save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_a_png(mode):
    check_strips(saved(mode, "PNG"))


def test_a_png_with_a_transparent_color():
    check_strips(saved("P", "PNG", transparency=bytes(range(256))))


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"])
@pytest.mark.parametrize("mode", ["L", "P", "RGB", "RGBA", "I;16", "F", "CMYK"])
@pytest.mark.parametrize("strip_size", [40_000, 2_000_000])
def test_a_tiff(mode, compression, strip_size):
    check_strips(saved(mode, "TIFF", compression=compression, strip_size=strip_size))


def test_a_tiff_with_a_predictor_or_with_jpeg_inside():
    check_strips(saved("RGB", "TIFF", compression="tiff_lzw", tiffinfo={317: 2}))
    check_strips(saved("RGB", "TIFF", compression="jpeg", quality=90))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_a_truncated_file_is_refused(tmp_path, kind):
    content = saved("RGB", kind)
    with open_photo(io.BytesIO(content[: len(content) // 2])) as file:
        image = Image.open(io.BytesIO(content))
        with pytest.raises((ValueError, OSError)):
            list(strips_of(image, file, 3)())


def test_what_cannot_be_cut_into_strips_has_none():
    for content in (saved("1", "PNG"), saved("RGB", "BMP")):
        with open_photo(io.BytesIO(content)) as file:
            assert strips_of(Image.open(io.BytesIO(content)), file, 3) is None


def test_a_scan_of_60_megapixels_that_lies_on_its_side_is_read(tmp_path):
    scan = Image.new("RGB", (10_000, 6_000), (255, 0, 0))
    scan.paste((0, 0, 255), (0, 0, 5_000, 3_000))  # the top left corner is the top right one, seen upright
    scan.save(tmp_path / "a.tiff", tiffinfo={274: 6})
    image = read_image(tmp_path / "a.tiff", at_least=(448, 448))
    assert image.size == (462, 770)
    assert (image.getpixel((5, 5)), image.getpixel((455, 5))) == ((255, 0, 0), (0, 0, 255))
    scan.save(tmp_path / "a.bmp")
    with pytest.raises(DataError, match="reading its 10000 x 6000 pixels as BMP"):
        read_image(tmp_path / "a.bmp", at_least=(448, 448))


def test_a_large_png_is_turned_upright_wherever_its_exif_block_lies(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    scan = Image.new("RGB", (9_000, 5_500), (255, 0, 0))
    scan.save(tmp_path / "a.png", exif=exif, compress_level=1)
    content = (tmp_path / "a.png").read_bytes()
    start = content.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(content[start : start + 4], "big")
    moved = content[:start] + content[end:-12] + content[start:end] + content[-12:]
    (tmp_path / "b.png").write_bytes(moved)
    for name in ("a.png", "b.png"):
        assert read_image(tmp_path / name, at_least=(448, 448)).size == (459, 750)
