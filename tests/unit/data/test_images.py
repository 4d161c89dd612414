"""Reading photographs, good and bad."""

import io
import os
import socket
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mpfgvc.data.images import as_image, image_size, read_image
from mpfgvc.errors import DataError

RED, GREEN, WHITE = (255, 0, 0), (0, 128, 0), (255, 255, 255)


@pytest.fixture
def no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def save(image: Image.Image, path: Path, **options: object) -> Path:
    image.save(path, **options)
    return path


def close(image: Image.Image, color: tuple[int, int, int], place: tuple[int, int] = (1, 1)) -> bool:
    """Whether a pixel has a color, up to what JPEG changes."""
    return max(abs(a - b) for a, b in zip(image.getpixel(place), color, strict=True)) <= 6


def chunk(kind: bytes, body: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, *chunks: bytes, color: int = 2) -> bytes:
    """A PNG file that claims a size and has no pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, color, 0, 0, 0)
    parts = [chunk(b"IHDR", header), *chunks, chunk(b"IDAT", zlib.compress(b"")), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "gif", "bmp", "tiff", "ppm"])
def test_formats_of_photographs_are_read_as_rgb(tmp_path, suffix):
    image = read_image(save(Image.new("RGB", (9, 5), RED), tmp_path / f"red.{suffix}"))
    assert (image.mode, image.size) == ("RGB", (9, 5))
    assert close(image, RED)


def test_the_content_decides_on_the_format_and_not_the_name(tmp_path):
    path = save(Image.new("RGB", (9, 5), RED), tmp_path / "red.png")
    assert close(read_image(path.rename(tmp_path / "red.jpg")), RED)


def test_16_bit_gray_is_scaled_and_not_clipped(tmp_path):
    values = np.array([[0, 1000, 40000, 65535]], dtype=np.uint16)
    for name in ("gray.png", "gray.tiff"):
        image = read_image(save(Image.fromarray(values), tmp_path / name))
        assert [image.getpixel((x, 0))[0] for x in range(4)] == [0, 4, 156, 255]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0.0, 0.5, 1.0]], dtype=np.float32), [0, 128, 255]),
        (np.array([[-10.0, 0.0, 30.0]], dtype=np.float32), [0, 64, 255]),
        (np.array([[0, 65535, 131070]], dtype=np.int32), [0, 128, 255]),
        (np.array([[7.5, 7.5]], dtype=np.float32), [8, 8]),
        (np.array([[300.0, 300.0]], dtype=np.float32), [0, 0]),
    ],
)
def test_32_bit_gray_is_scaled_to_the_whole_range(tmp_path, values, expected):
    image = read_image(save(Image.fromarray(values), tmp_path / "gray.tiff"))
    assert [image.getpixel((x, 0))[0] for x in range(values.shape[1])] == expected


def test_cmyk_keeps_its_colors(tmp_path):
    cmyk = Image.new("RGB", (16, 16), RED).convert("CMYK")
    assert close(read_image(save(cmyk, tmp_path / "red.jpg")), RED)
    assert close(read_image(save(cmyk, tmp_path / "red.tiff")), RED)


def test_a_palette_becomes_colors(tmp_path):
    palette = Image.new("RGB", (8, 8), GREEN).quantize(4)
    assert close(read_image(save(palette, tmp_path / "green.png")), GREEN)


def test_transparent_parts_become_white(tmp_path):
    image = Image.new("RGBA", (4, 2), (*RED, 255))
    image.putpixel((1, 1), (0, 0, 0, 0))
    read = read_image(save(image, tmp_path / "a.png"))
    assert (read.getpixel((1, 1)), read.getpixel((0, 0))) == (WHITE, RED)
    gray = Image.new("LA", (4, 2), (0, 0))
    assert read_image(save(gray, tmp_path / "b.png")).getpixel((1, 1)) == WHITE


def test_a_transparent_color_of_a_palette_becomes_white(tmp_path):
    palette = Image.new("P", (4, 2), 0)
    palette.putpalette([0, 0, 0, *RED])
    palette.putpixel((0, 0), 1)
    read = read_image(save(palette, tmp_path / "a.png", transparency=0))
    assert (read.getpixel((1, 1)), read.getpixel((0, 0))) == (WHITE, RED)


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_the_first_frame_of_an_animation_is_read(tmp_path, suffix):
    frames = [Image.new("RGB", (8, 8), color) for color in (RED, GREEN)]
    path = save(frames[0], tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:], duration=50)
    assert close(read_image(path), RED)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_exif_orientation_is_applied_once(tmp_path, orientation):
    upright = Image.new("RGB", (48, 32), WHITE)
    upright.paste(RED, (0, 0, 16, 16))  # the top left corner, seen upright
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    stored = upright.transpose(undo[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(stored, tmp_path / "a.jpg", exif=exif)
    image = read_image(path, at_least=(20, 20))
    assert image.size == (48, 32)
    assert close(image, RED, (4, 4))
    assert as_image(image).size == as_image(Image.open(path)).size == (48, 32)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_a_broken_exif_block_does_not_matter(tmp_path):
    path = save(
        Image.new("RGB", (9, 5), RED), tmp_path / "a.jpg", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff"
    )
    assert read_image(path).size == (9, 5)


def noise(kind: str) -> bytes:
    """A file of 64 x 64 random pixels."""
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def overwritten(content: bytes) -> bytes:
    """The file with 100 bytes of its middle set to 255."""
    middle = len(content) // 2
    return content[:middle] + b"\xff" * 100 + content[middle + 100 :]


BAD_FILES = {
    "empty": (b"", "the file is empty"),
    "text": (b"<html>not found</html>", "it is not an image of a known format"),
    "one byte": (b"P", "it is not an image of a known format"),
    "truncated": (noise("JPEG")[:1500], "truncated"),
    "header alone": (noise("JPEG")[:20], "."),
    "postscript": (
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "not an image of a known format",
    ),
    "without pixels": (png(8, 8), "."),
    "of no size": (b"P6\n0 5\n255\n", "."),
    "of no height": (b"GIF89a\x04\x00\x00\x00\x00\x00\x00" + b"," + bytes(9) + b"\x02\x00;", "."),
    "too large": (png(40_000, 30_000), "1200 megapixels are more than 1000"),
    "too large for its format": (
        b"P6\n10000 8000\n255\n",
        "reading its 10000 x 8000 pixels as PPM .RGB. takes 331 MB, more than the 200 MB allowed",
    ),
    "a line": (png(1, 65_535), "its shape of 1 x 65535 pixels is more elongated than 40 : 1"),
    "a longer line": (png(1_000_000, 1), "its shape of 1000000 x 1 pixels is more elongated"),
    "a huge palette": (png(8, 8, chunk(b"PLTE", bytes(2_000_000))), "it has a PLTE chunk of 2 MB"),
    "padded": (b"\xff\xd8" + b"\xff" * 70_000, "it has more than 65536 bytes of padding in its header"),
    "of endless segments": (
        b"\xff\xd8" + (b"\xff\xef\xff\xff" + bytes(65_533)) * 1025,
        "its header is longer than 67 MB",
    ),
    "progressive and large": (
        b"\xff\xd8\xff\xc2\x00\x11\x08\x27\x10\x27\x10\x03\x01\x11\x00\x02\x11\x00\x03\x11\x00"
        b"\xff\xda\x00\x0c\x03\x01\x00\x02\x00\x03\x00\x00\x3f\x00",
        "reading its 10000 x 10000 pixels as progressive JPEG .RGB. takes 618 MB",
    ),
    "corrupt": (noise("PNG").replace(b"IDAT", b"IDAT!", 1), "."),
    "corrupt inside": (overwritten(noise("PNG")), "data stream"),
}


@pytest.mark.parametrize(("content", "reason"), BAD_FILES.values(), ids=BAD_FILES.keys())
def test_a_bad_file_is_named_with_the_reason_and_the_way_out(tmp_path, content, reason):
    (tmp_path / "bad.jpg").write_bytes(content)
    way_out = r"export it again, remove it, or set data\.on_error=skip"
    with pytest.raises(DataError, match=rf"^cannot read the photograph .*bad\.jpg: .*{reason}.*; {way_out}$"):
        read_image(tmp_path / "bad.jpg", at_least=(448, 448))


def test_a_file_larger_than_the_limit_is_refused_before_it_is_read(tmp_path):
    with (tmp_path / "a.webp").open("wb") as file:
        file.write(noise("WEBP"))
        file.truncate(600_000_000)
    with pytest.raises(DataError, match="its 600 MB are more than the 537 MB a photograph may have"):
        read_image(tmp_path / "a.webp")
    os.truncate(tmp_path / "a.webp", 500_000_000)
    with pytest.raises(DataError, match="a block of 500 MB is larger than the 67 MB allowed"):
        read_image(tmp_path / "a.webp")


def special_files(folder: Path) -> dict[str, Path]:
    os.mkfifo(folder / "fifo.jpg")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "socket.jpg"))
    return {
        "FIFO": folder / "fifo.jpg",
        "socket": folder / "socket.jpg",
        "directory": folder,
        "device": Path("/dev/zero"),
    }


@pytest.mark.timeout(20)
def test_only_regular_files_are_opened(tmp_path):
    for kind, path in special_files(tmp_path).items():
        for read in (read_image, image_size):
            with pytest.raises(DataError, match=f"{path}: it is a {kind}, not a regular file"):
                read(path)


@pytest.mark.usefixtures("no_warning")
@pytest.mark.parametrize(
    "extra",
    [
        chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(3_000_000))),
        chunk(b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(bytes(3_000_000))),
        chunk(b"tEXt", b"Comment\0" + b"x" * 3_000_000),
        chunk(b"iCCP", b"profile\0\0" + zlib.compress(bytes(3_000_000))),
        chunk(b"teXt", bytes(3_000_000)),
        chunk(b"tEXt", b"Comment\0" + b"x" * 999_000) * 70,
    ],
    ids=["compressed text", "international text", "plain text", "profile", "unknown", "much text"],
)
@pytest.mark.parametrize("place", [33, -12], ids=["before the pixels", "after them"])
def test_a_png_with_long_chunks_is_read(tmp_path, extra, place):
    content = noise("PNG")
    (tmp_path / "a.png").write_bytes(content[:place] + extra + content[place:])
    assert np.array_equal(
        np.asarray(read_image(tmp_path / "a.png")), np.asarray(read_image(io.BytesIO(content)))
    )
    assert image_size(tmp_path / "a.png") == (64, 64)


def test_a_png_keeps_the_chunks_that_change_its_pixels(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    palette = Image.new("P", (4, 2), 0)
    palette.putpalette([0, 0, 0, *RED])
    file = io.BytesIO()
    palette.save(file, "PNG", transparency=0, exif=exif)
    content = file.getvalue()
    (tmp_path / "a.png").write_bytes(
        content[:33] + chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(3_000_000))) + content[33:]
    )
    image = read_image(tmp_path / "a.png")
    assert (image.size, image.getpixel((0, 0))) == ((2, 4), WHITE)


def test_what_does_not_fit_in_memory_is_refused_like_a_broken_file(tmp_path, monkeypatch):
    path = save(Image.new("RGB", (9, 5), RED), tmp_path / "a.png")

    def fail(self: Image.Image) -> None:
        raise MemoryError

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fail)
    with pytest.raises(DataError, match=r"a\.png: there is not enough memory to decode it; export"):
        read_image(path)


def test_a_photograph_that_would_take_too_much_memory_is_reduced_and_another_one_is_not(tmp_path):
    large = save(Image.new("RGBA", (7_000, 6_000)), tmp_path / "large.png", compress_level=1)
    small = save(Image.new("RGBA", (700, 600)), tmp_path / "small.png")
    assert read_image(large, at_least=(448, 448)).size == (539, 462)  # by 13, the most that leaves 448
    assert read_image(small, at_least=(100, 100)).size == (700, 600)


@pytest.mark.usefixtures("no_warning")
def test_pillows_warnings_do_not_matter_and_others_do(tmp_path):
    exif = b"Exif\0\0MM\0*\xff\xff\xff\xff"
    corrupt = save(Image.new("RGB", (9, 5)), tmp_path / "b.jpg", exif=exif)
    assert read_image(corrupt).size == (9, 5)
    with pytest.raises(UserWarning, match="ours"):
        warnings.warn("ours", stacklevel=1)


def test_a_path_without_a_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"gone\.jpg: it does not exist"):
        read_image(tmp_path / "gone.jpg")
    with pytest.raises(DataError, match="it is a directory, not a regular file"):
        read_image(tmp_path)


def test_bytes_in_memory_are_read_and_refused_without_a_path():
    assert read_image(io.BytesIO(noise("JPEG"))).size == (64, 64)
    with pytest.raises(DataError, match=r"^cannot read the given image: the file is empty"):
        read_image(io.BytesIO(b""))


def test_a_jpeg_is_decoded_at_the_smallest_scale_that_is_still_enough(tmp_path):
    path = save(Image.new("RGB", (400, 240), RED), tmp_path / "a.jpg")
    assert read_image(path).size == (400, 240)
    assert read_image(path, at_least=(60, 60)).size == (100, 60)
    assert read_image(path, at_least=(61, 10)).size == (200, 120)
    assert read_image(path, at_least=(500, 500)).size == (400, 240)


@pytest.mark.usefixtures("no_warning")
def test_a_photograph_of_100_megapixels_is_read_without_a_warning(tmp_path):
    path = save(Image.new("L", (10_000, 10_000), 255), tmp_path / "large.png", compress_level=1)
    limit = Image.MAX_IMAGE_PIXELS
    assert image_size(path) == (10_000, 10_000)
    image = read_image(path, at_least=(448, 448))
    assert image.size == (455, 455)  # reduced by 22, the most that leaves 448
    assert image.getpixel((200, 200)) == WHITE
    assert limit == Image.MAX_IMAGE_PIXELS


@pytest.mark.usefixtures("no_warning")
def test_a_jpeg_beyond_pillows_own_limit_is_read(tmp_path):
    path = save(Image.new("L", (13_500, 13_500), 255), tmp_path / "huge.jpg")
    assert read_image(path, at_least=(448, 448)).size == (1688, 1688)


def test_the_header_gives_the_size_of_a_file_whose_pixels_are_broken(tmp_path):
    (tmp_path / "a.png").write_bytes(png(8, 6))
    assert image_size(tmp_path / "a.png") == (6, 8)


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
        (
            np.zeros((3, 4, 5), np.uint8),
            r"must be \(height, width\) or \(height, width, 3\), got \(3, 4, 5\)",
        ),
        (np.zeros((0, 4), np.uint8), r"got \(0, 4\)"),
        (np.zeros((4, 4), np.int64), r"must be uint8, uint16 or float \(0\.\.1\), got int64"),
        (np.full((4, 4), 2.0), r"must be in 0\.\.1, got 2\.\.2; divide by 255"),
        (np.full((4, 4), np.nan), r"must be in 0\.\.1"),
        (np.zeros((2, 90), np.uint8), "its shape of 90 x 2 pixels is more elongated than 40 : 1"),
        (Image.new("RGB", (3, 200)), "its shape of 3 x 200 pixels is more elongated than 40 : 1"),
        (Image.new("RGB", (0, 4)), "cannot read the given image: it has no pixels"),
        (7, "must be a path, a Pillow image or an array, got int"),
    ],
)
def test_other_sources_are_refused_in_one_line(source, message):
    with pytest.raises(DataError, match=message) as refusal:
        as_image(source)
    assert "\n" not in str(refusal.value)
