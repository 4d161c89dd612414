"""Reading photographs, good and bad."""

import io
import os
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mpfgvc.data.images import MOST_BYTES, as_image, image_size, read_image
from mpfgvc.errors import DataError

pillow_heif = pytest.importorskip("pillow_heif")
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 128, 0), (0, 0, 255), (255, 255, 255)
FLIPS = Image.Transpose
STORED_AS = {
    2: FLIPS.FLIP_LEFT_RIGHT, 3: FLIPS.ROTATE_180, 4: FLIPS.FLIP_TOP_BOTTOM, 5: FLIPS.TRANSPOSE,
    6: FLIPS.ROTATE_90, 7: FLIPS.TRANSVERSE, 8: FLIPS.ROTATE_270,
}  # fmt: skip
"""How an upright image is stored with each EXIF orientation."""


def save(image: Image.Image, path: Path, **options: object) -> Path:
    image.save(path, **options)
    return path


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def read(content: bytes, **options: object) -> Image.Image:
    return read_image(io.BytesIO(content), **options)


def close(image: Image.Image, color: tuple[int, int, int], place: tuple[int, int] = (1, 1)) -> bool:
    """Whether a pixel has a color, up to what lossy formats change."""
    return max(abs(a - b) for a, b in zip(image.getpixel(place), color, strict=True)) <= 6


def grays(image: Image.Image) -> list[int]:
    """The gray levels of the first row."""
    pixels = np.asarray(image)
    assert (pixels[..., 0] == pixels[..., 1]).all()
    return pixels[0, :, 0].tolist()


def chunk(kind: bytes, body: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, *, pixels: bytes = b"", bits: int = 8, color: int = 2) -> bytes:
    """A PNG file that claims a size; without `pixels`, it has none."""
    header = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def tiff(numbers: dict[int, int], pixels: bytes = b"") -> bytes:
    """A TIFF of tags with a number each, and the bytes from its eighth on."""
    tags = b"".join(struct.pack("<HHII", tag, 4, 1, number) for tag, number in numbers.items())
    return struct.pack("<2sHI", b"II", 42, 8 + len(pixels)) + pixels + struct.pack("<H", len(numbers)) + tags + bytes(4)


def noise() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))


def corner() -> Image.Image:
    """A white image whose top left corner is red."""
    image = Image.new("RGB", (96, 64), WHITE)
    image.paste(RED, (0, 0, 32, 32))
    return image


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "gif", "bmp", "tiff", "ppm", "avif", "jp2", "heic"])
def test_formats_of_photographs_are_read_as_rgb_whatever_the_name(tmp_path, suffix):
    pillow_heif.register_heif_opener()
    path = save(Image.new("RGB", (64, 40), RED), tmp_path / f"red.{suffix}")
    image = read_image(path.rename(tmp_path / "red.jpeg"))
    assert (image.mode, image.size) == ("RGB", (64, 40))
    assert close(image, RED)


@pytest.mark.parametrize(
    ("kind", "dtype", "values", "expected"),
    [
        ("PNG", np.uint16, [0, 1000, 40000, 65535], [0, 4, 156, 255]),
        ("PNG", np.uint16, [0, 2048, 4095], [0, 128, 255]),  # 12 bits
        ("PNG", np.uint16, [0, 128, 255], [0, 128, 255]),  # 8 bits
        ("TIFF", np.uint16, [0, 4096, 65535], [0, 16, 255]),
        ("TIFF", np.int32, [0, 2048, 4095], [0, 128, 255]),
        ("TIFF", np.int32, [0, 65535, 131070], [0, 128, 255]),
        ("TIFF", np.int32, [-100, 0, 100], [0, 128, 255]),
        ("TIFF", np.float32, [0.0, 0.25, 1.0], [0, 64, 255]),
        ("TIFF", np.float32, [0.0, 64.0, 128.0], [0, 64, 128]),
        ("TIFF", np.float32, [-10.0, 0.0, 30.0], [0, 64, 255]),
        ("TIFF", np.float32, [300.0, 300.0], [0, 0]),
        ("TIFF", np.float32, [np.nan, 0.0, 0.5], [0, 0, 128]),
        ("TIFF", np.float32, [np.inf, -np.inf, 1.0], [0, 0, 255]),
        ("TIFF", np.float32, [np.nan, np.nan], [0, 0]),
        ("TIFF", np.int32, [-9999, 128, 255], [0, 128, 255]),  # the usual "no data" of maps
        ("TIFF", np.float32, [-9999, 64.0, 128.0], [0, 64, 128]),
        ("TIFF", np.float32, [-3.4e38, 1e38, 0.5], [0, 0, 128]),
    ],
)
@pytest.mark.filterwarnings("error")
def test_gray_values_of_many_bits_are_scaled_and_not_clipped(kind, dtype, values, expected):
    deep = np.array([values], dtype=dtype)
    assert grays(read(saved(Image.fromarray(deep), kind))) == expected
    if dtype == np.uint16:
        assert grays(as_image(deep)) == grays(as_image(Image.fromarray(deep))) == expected


def test_a_tiff_says_that_its_32_bits_are_unsigned_and_which_value_is_no_data():
    content = saved(Image.fromarray(np.array([[0, -(2**31), -1]], np.int32)), "TIFF")
    signed, unsigned = (struct.pack("<HHII", 339, 3, 1, format) for format in (2, 1))
    assert grays(read(content)) == [255, 0, 255]
    unsigned_content = content.replace(signed, unsigned)
    assert grays(read(unsigned_content)) == [0, 128, 255]
    assert grays(as_image(Image.open(io.BytesIO(unsigned_content)))) == [0, 128, 255]
    deep = Image.fromarray(np.array([[65535, 2048, 4095]], np.uint16))
    assert grays(read(saved(deep, "TIFF", tiffinfo={42113: "65535"}))) == [0, 128, 255]


def test_a_signalling_nan_gives_no_warning():
    content = saved(Image.fromarray(np.array([[0.5, 1.0]], np.float32)), "TIFF")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert grays(read(content.replace(struct.pack("<f", 0.5), b"\x01\x00\xa0\x7f"))) == [0, 255]


def color_tiff(row: np.ndarray, *, compression: int) -> bytes:
    """A TIFF of one row of 16-bit colors, perhaps with opacity; compression 1 is none, 8 is that of zlib."""
    width, bands = row.shape
    pixels = row.astype("<u2").tobytes()
    pixels = zlib.compress(pixels) if compression == 8 else pixels
    numbers = {256: width, 257: 1, 258: 16, 259: compression, 262: 2, 273: 8, 277: bands, 278: 1, 279: len(pixels)}
    numbers |= {338: 2} if bands == 4 else {}
    return tiff(numbers, pixels)


@pytest.mark.parametrize("opacity", [None, "as the colors", "of 16 bits"])
@pytest.mark.parametrize("most", [255, 4095, 65535])
def test_colors_of_8_12_or_16_bits_are_scaled_by_their_largest_value(most, opacity):
    row = np.array([[0, most // 2, most], [most // 4, most // 8, most]])
    expected = (row * 255 / most)[None]
    if opacity is not None:
        opaque = most if opacity == "as the colors" else 65535
        row = np.column_stack((row, [opaque, 0]))
        expected[0, 1] = 255  # what is transparent is white
    color = 2 if opacity is None else 6
    contents = [png(2, 1, pixels=b"\0" + row.astype(">u2").tobytes(), bits=16, color=color)]
    contents += [color_tiff(row, compression=kind) for kind in (1, 8)]
    for content in contents:
        assert np.abs(np.asarray(read(content)) - expected).max() <= 1


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_keeps_its_colors(kind):
    assert close(read(saved(Image.new("RGB", (16, 16), RED).convert("CMYK"), kind)), RED)


def test_transparent_parts_become_white():
    color = Image.new("RGBA", (4, 2), (*RED, 255))
    color.putpixel((1, 1), (0, 0, 0, 0))
    palette = Image.new("P", (4, 2), 1)
    palette.putpalette([0, 0, 0, *RED])
    palette.putpixel((1, 1), 0)
    for content in (saved(color, "PNG"), saved(palette, "PNG", transparency=0)):
        image = read(content)
        assert (image.getpixel((1, 1)), image.getpixel((0, 0))) == (WHITE, RED)
    assert read(saved(Image.new("LA", (4, 2), (0, 0)), "PNG")).getpixel((1, 1)) == WHITE
    assert close(read(saved(Image.new("RGB", (8, 8), GREEN).quantize(4), "PNG")), GREEN)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF", "MPO"])
def test_the_first_frame_is_read(kind):
    frames = [Image.new("RGB", (16, 16), color) for color in (RED, GREEN)]
    assert close(read(saved(frames[0], kind, save_all=True, append_images=frames[1:])), RED)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF", "HEIF"])
@pytest.mark.parametrize("orientation", [1, *STORED_AS])
def test_an_image_is_turned_upright_once(kind, orientation):
    pillow_heif.register_heif_opener()
    stored = corner().transpose(STORED_AS[orientation]) if orientation > 1 else corner()
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = saved(stored, kind, exif=exif.tobytes(), quality=95)
    image = read(content, at_least=(40, 40))
    assert image.size == (96, 64)
    assert close(image, RED, (4, 4))
    assert close(image, WHITE, (80, 50))
    assert as_image(image).size == as_image(Image.open(io.BytesIO(content))).size == (96, 64)


def test_an_image_of_a_caller_stays_as_it_is():
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.open(io.BytesIO(saved(corner(), "JPEG", exif=exif)))
    assert as_image(image).size == (64, 96)
    assert (image.size, image.getexif()[0x0112]) == ((96, 64), 6)


@pytest.mark.parametrize("block", [b"Exif\0\0MM\0*\xff\xff\xff\xff", b"Exif\0\0"])
def test_a_broken_exif_block_does_not_matter(block):
    assert read(saved(Image.new("RGB", (9, 5), RED), "JPEG", exif=block)).size == (9, 5)


def phone_files() -> dict[str, bytes]:
    """What phones write besides a plain HEIC; the primary image of each is `corner`."""
    other = Image.new("RGB", (96, 64), BLUE)
    burst = pillow_heif.from_pillow(other)
    burst.add_from_pillow(corner())
    burst.add_from_pillow(other)
    deep = np.asarray(corner()).astype(np.uint16) * 257
    files = {
        "burst": (burst, {"primary_index": 1}),
        "thumbnail": (pillow_heif.from_pillow(corner()), {"thumbnails": [32]}),
        "10 bits": (pillow_heif.from_bytes("RGB;16", (96, 64), deep.tobytes()), {}),
    }
    contents = {}
    for name, (file, options) in files.items():
        content = io.BytesIO()
        file.save(content, quality=95, **options)
        contents[name] = content.getvalue()
    exif = Image.Exif()
    exif[0x0112] = 6
    pillow_heif.register_heif_opener()
    contents["EXIF beside no rotation"] = saved(corner(), "HEIF", exif=exif, quality=95)
    contents["a brand that others share"] = contents["burst"].replace(b"ftypheic", b"ftypmif1", 1)
    return contents


@pytest.mark.parametrize(("name", "content"), phone_files().items(), ids=phone_files().keys())
def test_files_of_phones_give_their_primary_image(name, content):
    image = read(content, at_least=(20, 20))
    assert (image.size, image_size(io.BytesIO(content))) == ((96, 64), (64, 96))
    assert close(image, RED, (4, 4))
    assert close(image, WHITE, (80, 50))


def test_without_its_library_a_heic_is_refused_with_the_package_that_has_it(tmp_path):
    (tmp_path / "a.heic").write_bytes(phone_files()["burst"])
    script = (
        "import sys; sys.modules['pillow_heif'] = None\n"
        "from mpfgvc.data.images import read_image\nread_image(sys.argv[1])"
    )
    ended = subprocess.run([sys.executable, "-c", script, tmp_path / "a.heic"], capture_output=True, text=True)
    assert "a.heic: it is HEIC, which needs one more package: pip install pillow-heif" in ended.stderr


JPEG, PNG, GIF = saved(noise(), "JPEG"), saved(noise(), "PNG"), saved(noise(), "GIF")
PROGRESSIVE = saved(noise(), "JPEG", progressive=True)
LAST_SCAN = PROGRESSIVE[PROGRESSIVE.rindex(b"\xff\xda") : -2]


def claimed(content: bytes, width: int, height: int) -> bytes:
    """The JPEG with another size in its frame header."""
    return content.replace(struct.pack(">HH", 64, 64), struct.pack(">HH", height, width), 1)


BAD_FILES = {
    "empty": (b"", "the file is empty"),
    "text": (b"<html>not found</html>", "it is not an image of a known format"),
    "one byte": (b"P", "it is not an image of a known format"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n", "it is not an image of a known format"),
    "truncated": (JPEG[:1500], "truncated"),
    "header alone": (JPEG[:20], "."),
    "without pixels": (png(8, 8), "."),
    "of no size": (b"P6\n0 5\n255\n", "."),
    "of no height": (b"GIF89a\x04\x00\x00\x00\x00\x00\x00,\0\0\0\0\0\0\0\0\0\x02\x00;", "."),
    "too many pixels": (png(40_000, 30_000), "1200 megapixels are more than 250"),
    "too large": (
        b"P6\n10000 8000\n255\n",
        "reading its 10000 x 8000 pixels as PPM .RGB. takes 649 MB, more than the 400 MB allowed",
    ),
    "a large GIF": (b"GIF89a\x00\x30\x00\x3c\0\0\0,\0\0\0\0\x00\x30\x00\x3c\0\x02\x00;", "more than the 400 MB"),
    "a line": (png(1, 65_535), "its shape of 1 x 65535 pixels is more elongated than 40 : 1"),
    "numbers as text": (b"P3\n2 2\n255\n0 0 0 ", "decoding this kind of PPM takes too long; save it as PNG"),
    "slow and long": (saved(noise(), "AVIF") + bytes(30_000_000), "more than 30 MB of AVIF takes too long"),
    "progressive and large": (
        claimed(PROGRESSIVE, 10_000, 10_000),
        "reading its 10000 x 10000 pixels as JPEG .RGB. takes 622 MB",
    ),
    "scans without end": (
        claimed(PROGRESSIVE[:-2] + LAST_SCAN * 500 + PROGRESSIVE[-2:], 2000, 1500),
        "its 2000 x 1500 pixels come in 334 or more scans; save it as a baseline JPEG",
    ),
    "chunks without end": (PNG[:33] + chunk(b"teSt", b"") * 600_000 + PNG[33:], "it consists of too many parts"),
    "chunks after the pixels": (PNG[:-12] + chunk(b"teSt", b"") * 600_000 + PNG[-12:], "it consists of too many parts"),
    "segments without end": (JPEG[:2] + b"\xff\xef\0\2" * 400_000 + JPEG[2:], "it consists of too many parts"),
    "segments after a scan": (
        PROGRESSIVE[:-2] + b"\xff\xef\0\2" * 100_000 + PROGRESSIVE[-2:],
        "it consists of too many parts",
    ),
    "blocks of a byte": (GIF[:781] + b"!\xfe" + b"\1a" * 600_000 + b"\0" + GIF[781:], "it consists of too many parts"),
    "a long comment": (b"P6\n#" + b"a" * 1_100_000 + b"\n1 1\n255\n123", "it consists of too many parts"),
    "a tile of a gigabyte": (
        tiff({256: 99, 257: 99, 258: 8, 259: 8, 262: 1, 322: 32_000, 323: 32_000, 324: 8, 325: 9}),
        "its tiles of 32000 x 32000 pixels are larger than the picture",
    ),
    "65,025 tiles": (
        saved(noise(), "JPEG2000", no_jp2=True).replace(
            struct.pack(">8I", 64, 64, 0, 0, 64, 64, 0, 0), struct.pack(">8I", 2550, 2550, 0, 0, 10, 10, 0, 0)
        ),
        "reading its 2550 x 2550 pixels as JPEG2000 .RGB. takes 1043 MB",
    ),
    "offsets without end": (
        struct.pack("<2sHIHHHII", b"II", 42, 8, 1, 273, 4, 30_000_000, 32),
        "its tag 273 has 30000000 values",
    ),
    "corrupt": (PNG.replace(b"IDAT", b"IDAT!", 1), "."),
    "corrupt inside": (PNG[:6000] + b"\xff" * 100 + PNG[6100:], "data stream"),
    "no HEIC after all": (b"\0\0\0\x18ftypheic" + bytes(40), "it is not an image of a known format"),
}


@pytest.mark.parametrize(("content", "reason"), BAD_FILES.values(), ids=BAD_FILES.keys())
def test_a_bad_file_is_named_with_the_reason_and_the_way_out(tmp_path, content, reason):
    (tmp_path / "bad.jpg").write_bytes(content)
    way_out = r"export it again, remove it, or set data\.on_error=skip"
    with pytest.raises(DataError, match=rf"^cannot read the photograph .*bad\.jpg: .*{reason}.*; {way_out}$"):
        read_image(tmp_path / "bad.jpg", at_least=(448, 448))


def test_the_header_check_refuses_a_large_progressive_jpeg_of_too_many_scans():
    gray = saved(noise().convert("L"), "JPEG", progressive=True)
    content = claimed(gray, 16_000, 12_000)
    for function in (image_size, read_image):
        with pytest.raises(DataError, match=r"16000 x 12000 pixels come in 6 or more scans"):
            function(io.BytesIO(content))


def test_a_progressive_jpeg_of_a_camera_is_read_whatever_follows_it():
    preview = b"\xff\xe1\xff\xff" + (b"\xff\xda" * 40_000)[:65_533]
    content = PROGRESSIVE[:2] + preview * 20 + PROGRESSIVE[2:] + b"\xff\xda\0\x08" * 10_000
    assert np.array_equal(np.asarray(read(content)), np.asarray(read(PROGRESSIVE)))


@pytest.mark.timeout(20)
def test_only_regular_files_of_moderate_size_are_opened(tmp_path):
    os.mkfifo(tmp_path / "fifo.jpg")
    with (tmp_path / "large.webp").open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    reasons = {
        tmp_path / "fifo.jpg": "it is not a regular file",
        tmp_path: "it is not a regular file",
        Path("/dev/zero"): "it is not a regular file",
        tmp_path / "gone.jpg": "it does not exist",
        tmp_path / "large.webp": "it is larger than the 150 MB that a photograph may have",
    }
    for path, reason in reasons.items():
        for function in (read_image, image_size):
            with pytest.raises(DataError, match=f"cannot read the photograph {path}: {reason}"):
                function(path)


def test_decoders_write_nothing_and_other_warnings_are_shown_once(tmp_path):
    contents = {
        "a.tiff": saved(noise(), "TIFF", compression="tiff_adobe_deflate"),
        "b.jpg": saved(noise(), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff"),
        "c.png": png(12_000, 9_000, color=0),
    }
    contents["a.tiff"] = contents["a.tiff"][:6000] + b"\xff" * 100 + contents["a.tiff"][6100:]
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    script = (
        "import sys, warnings\nfrom pathlib import Path\nfrom mpfgvc.data.images import *\n"
        "for path in [*Path(sys.argv[1]).iterdir()] * 2:\n"
        "    warnings.warn('ours')\n"
        "    try: image_size(path); read_image(path)\n"
        "    except DataError: pass\n"
    )
    ended = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=True)
    assert ended.stderr.count("ours") == 2  # the warning, and the line of the script
    assert len(ended.stderr.splitlines()) == 2


def test_a_jpeg_is_decoded_at_the_smallest_scale_that_is_still_enough(tmp_path):
    path = save(Image.new("RGB", (400, 240), RED), tmp_path / "a.jpg")
    assert read_image(path).size == (400, 240)
    assert read_image(path, at_least=(60, 60)).size == (100, 60)
    assert read_image(path, at_least=(61, 10)).size == (200, 120)
    assert read_image(path, at_least=(500, 500)).size == (400, 240)


def test_a_photograph_of_200_megapixels_is_read(tmp_path):
    path = save(Image.new("L", (16_320, 12_240), 255), tmp_path / "huge.jpg")
    limit = Image.MAX_IMAGE_PIXELS
    assert image_size(path) == (12_240, 16_320)
    assert read_image(path, at_least=(448, 448)).size == (2040, 1530)
    assert limit == Image.MAX_IMAGE_PIXELS
    with pytest.raises(DataError, match="takes 1607 MB"):
        read_image(path)


def test_the_header_gives_the_size_of_a_file_whose_pixels_are_broken():
    assert image_size(io.BytesIO(png(8, 6))) == (6, 8)


def test_bytes_in_memory_are_refused_without_a_path():
    with pytest.raises(DataError, match=r"^cannot read the given image: the file is empty"):
        read(b"")


def test_arrays_and_pillow_images_are_taken_as_they_are():
    gray = np.array([[0, 51], [102, 255]], dtype=np.uint8)
    assert np.array_equal(np.asarray(as_image(gray)), np.repeat(gray[:, :, None], 3, axis=2))
    assert np.array_equal(np.asarray(as_image((gray / 255).astype(np.float32))), np.asarray(as_image(gray)))
    color = np.arange(18, dtype=np.uint8).reshape(3, 2, 3)
    assert np.array_equal(np.asarray(as_image(color)), color)
    assert as_image(Image.new("RGBA", (2, 2), (0, 0, 0, 0))).getpixel((0, 0)) == WHITE


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.zeros((3, 4, 5), np.uint8), r"must be \(height, width\) or \(height, width, 3\), got \(3, 4, 5\)"),
        (np.zeros((0, 4), np.uint8), r"got \(0, 4\)"),
        (np.zeros((4, 4), np.int64), r"must be uint8, uint16 or float \(0\.\.1\), got int64"),
        (np.full((4, 4), 2.0), r"must be in 0\.\.1, got 2\.\.2; divide by 255"),
        (np.full((4, 4), np.nan), r"must be in 0\.\.1"),
        (np.zeros((2, 90), np.uint8), "its shape of 90 x 2 pixels is more elongated than 40 : 1"),
        (Image.new("RGB", (3, 200)), "its shape of 3 x 200 pixels is more elongated than 40 : 1"),
        (Image.new("RGB", (0, 4)), "cannot read the given image: it has no pixels"),
    ],
)
def test_other_sources_are_refused_in_one_line(source, message):
    with pytest.raises(DataError, match=message) as refusal:
        as_image(source)
    assert "\n" not in str(refusal.value)
