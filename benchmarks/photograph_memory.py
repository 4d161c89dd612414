"""Peak memory and CPU of one photograph, read and prepared as for a test at 96 pixels: 100 large or hostile files.

Each file is made here, read in a forked process, and reported with what that process held at its peak above
what it had before (side_by_side.py), its seconds of CPU, and the reason where it is refused. Read or refused,
no file may take more than 400 MB, or 10 seconds.

    python -m benchmarks.photograph_memory [--only NAME]
"""

import argparse
import io
import json
import multiprocessing
import struct
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pillow_heif
from PIL import Image

from common import write_result
from mpfgvc.data.images import read_image
from mpfgvc.data.preprocessing import Preprocessing
from mpfgvc.data.transforms import eval_transform
from mpfgvc.errors import MpfgvcError
from side_by_side import peak_megabytes

MOST_MEGABYTES, MOST_SECONDS = 400, 10
MOST_FILE = 149_000_000
TWO_GIGABYTES = 2 * 1024**3
Write = Callable[[Path], None]
TRANSFORM = eval_transform(
    Preprocessing(image_size=(96, 96), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), crop_ratio=0.875)
)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, *, bits: int, color: int, channels: int, interlaced: bool = False) -> Write:
    """A PNG of zeros, written row by row so that making it takes no memory."""

    def write(path: Path) -> None:
        header = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, int(interlaced))
        row, packer = bytes(1 + width * channels * bits // 8), zlib.compressobj(1)
        with path.open("wb") as file:
            file.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header))
            for body in [*(packer.compress(row) for _ in range(height)), packer.flush()]:
                if body:
                    file.write(chunk(b"IDAT", body))
            file.write(chunk(b"IEND", b""))

    return write


def saved(mode: str, width: int, height: int, kind: str, **options: object) -> Write:
    """What Pillow writes for a blank image with a few pixels of noise."""

    def write(path: Path) -> None:
        image = Image.new(mode, (width, height), 120 if len(mode) < 3 else (120, 90, 60, 200)[: len(mode)])
        noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
        image.paste(Image.fromarray(noise).convert(mode), (0, 0))
        image.save(path, kind, **options)

    return write


def encoded(kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(file, kind, **options)
    return file.getvalue()


def parts(content: bytes, after: int, part: bytes, megabytes: int = 40) -> Write:
    """A file with tiny parts put in behind so many bytes (from its end if below 0)."""

    def write(path: Path) -> None:
        path.write_bytes(content[:after] + part * (megabytes * 10**6 // len(part)) + content[after:])

    return write


def text(start: bytes, part: bytes, megabytes: int = 40) -> Write:
    return parts(start, len(start), part, megabytes)


def noise(kind: str, width: int, height: int, **options: object) -> Write:
    """Random pixels, which no decoder can hurry through."""

    def write(path: Path) -> None:
        pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path, kind, **options)

    return write


def frames(kind: str, count: int, side: int) -> Write:
    def write(path: Path) -> None:
        colors = [Image.new("RGB", (side, side), (number, 0, 0)) for number in range(count)]
        colors[0].save(path, kind, save_all=True, append_images=colors[1:])

    return write


def tiff(numbers: dict[int, int], content: bytes = b"", tail: bytes = b"") -> bytes:
    """A TIFF of tags with one number each; its eighth byte begins the content."""
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, number) for tag, number in sorted(numbers.items()))
    head = struct.pack("<2sHI", b"II", 42, 8 + len(content))
    return head + content + struct.pack("<H", len(numbers)) + entries + bytes(4) + tail


def tile(side: int) -> Write:
    """A TIFF of 100 x 100 pixels in one packed tile of far more."""

    def write(path: Path) -> None:
        packer = zlib.compressobj(9)
        packed = b"".join([*(packer.compress(bytes(3 * side)) for _ in range(side)), packer.flush()])
        numbers = {256: 100, 257: 100, 258: 8, 259: 8, 262: 2, 277: 3, 322: side, 323: side, 324: 8, 325: len(packed)}
        path.write_bytes(tiff(numbers, packed))

    return write


def scans_in_tiff(width: int, height: int, *, times: int) -> Write:
    """A TIFF of a progressive JPEG with many scans."""

    def write(path: Path) -> None:
        rescanned(width, height, times=times)(path)
        content = path.read_bytes()
        numbers = {256: width, 257: height, 258: 8, 259: 7, 262: 6, 273: 8, 277: 3, 278: height, 279: len(content)}
        path.write_bytes(tiff(numbers, content))

    return write


def tiles_2000(side: int, tiles: int) -> Write:
    """A JPEG 2000 that claims many tiles and has the data of one."""

    def write(path: Path) -> None:
        old, new = (struct.pack(">8I", size, size, 0, 0, each, each, 0, 0) for size, each in ((64, 64), (side, tiles)))
        path.write_bytes(encoded("JPEG2000", no_jp2=True).replace(old, new))

    return write


def claimed(width: int, height: int, content: bytes) -> Write:
    """A JPEG with another size in its header, and the pixels of 64 x 64."""
    old, new = struct.pack(">HH", 64, 64), struct.pack(">HH", height, width)
    return parts(content.replace(old, new, 1), 0, b" ", 0)


def bmp(side: int, content: bytes) -> bytes:
    """A BMP of run lengths."""
    sizes = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, len(content), 1, 1, 256, 0)
    return b"BM" + struct.pack("<IHHI", 1078 + len(content), 0, 0, 1078) + sizes + bytes(1024) + content


def sparse(start: bytes, size: int, end: bytes = b"") -> Write:
    """A file with zeros between its start and its end."""

    def write(path: Path) -> None:
        with path.open("wb") as file:
            file.write(start)
            file.seek(size)
            file.write(end or b"\0")

    return write


def repeated(start: bytes, block: bytes, times: int, end: bytes) -> Write:
    def write(path: Path) -> None:
        with path.open("wb") as file:
            file.write(start)
            for _ in range(times):
                file.write(block)
            file.write(end)

    return write


def rescanned(width: int, height: int, *, times: int) -> Write:
    """A progressive JPEG whose last scan is repeated: 42 bytes make the decoder go over all pixels again."""

    def write(path: Path) -> None:
        file = io.BytesIO()
        Image.new("RGB", (width, height), (120, 90, 60)).save(file, "JPEG", progressive=True)
        content = file.getvalue()
        path.write_bytes(content[:-2] + content[content.rindex(b"\xff\xda") : -2] * times + content[-2:])

    return write


def long_tag(tag: int, kind: int, count: int) -> Write:
    """A TIFF that is one tag with a list of numbers."""
    head = struct.pack("<2sHIHHHII", b"II", 42, 8, 1, tag, kind, count, 32)
    return sparse(head, 32 + 4 * count)


def webp(size: int) -> bytes:
    content = bytearray(encoded("WEBP"))
    content[4:8] = struct.pack("<I", min(size, 2**32 - 2))
    return bytes(content)


JPEG, PNG, GIF = encoded("JPEG"), encoded("PNG"), encoded("GIF")
PROGRESSIVE = encoded("JPEG", progressive=True)
SEGMENT = b"\xff\xef" + struct.pack(">H", 65535) + bytes(65533)
FILES: dict[str, Write] = {
    "PNG 1 x 65,535": png(1, 65535, bits=8, color=2, channels=3),
    "PNG 1 x 1,000,000": png(1, 1_000_000, bits=8, color=2, channels=3),
    "PNG RGB 24 Mpx": png(6000, 4000, bits=8, color=2, channels=3),
    "PNG RGB 40 Mpx": png(8000, 5000, bits=8, color=2, channels=3),
    "PNG RGB 100 Mpx": png(10000, 10000, bits=8, color=2, channels=3),
    "PNG RGB 40 Mpx, 1,000 wide": png(1000, 40000, bits=8, color=2, channels=3),
    "PNG RGB 20 Mpx, interlaced, cut off": png(5000, 4000, bits=8, color=2, channels=3, interlaced=True),
    "PNG RGBA 24 Mpx": png(6000, 4000, bits=8, color=6, channels=4),
    "PNG RGBA 40 Mpx": png(8000, 5000, bits=8, color=6, channels=4),
    "PNG RGBA 100 Mpx": png(10000, 10000, bits=8, color=6, channels=4),
    "PNG 16-bit gray 150 Mpx": png(15000, 10000, bits=16, color=0, channels=1),
    "PNG 16-bit gray 30 Mpx": png(6000, 5000, bits=16, color=0, channels=1),
    "PNG RGB 500 Mpx": png(25000, 20000, bits=8, color=2, channels=3),
    "PNG gray 100 Mpx": png(10000, 10000, bits=8, color=0, channels=1),
    "PNG 16-bit gray 24 Mpx": png(6000, 4000, bits=16, color=0, channels=1),
    "PNG 16-bit gray 80 Mpx": png(10000, 8000, bits=16, color=0, channels=1),
    "PNG 16-bit RGB 40 Mpx": png(8000, 5000, bits=16, color=2, channels=3),
    "JPEG 24 Mpx": saved("RGB", 6000, 4000, "JPEG"),
    "JPEG 150 Mpx": saved("RGB", 15000, 10000, "JPEG"),
    "JPEG 24 Mpx, progressive 4:4:4": saved("RGB", 6000, 4000, "JPEG", progressive=True, subsampling=0),
    "JPEG 50 Mpx, progressive 4:2:0": saved("RGB", 10000, 5000, "JPEG", progressive=True),
    "JPEG 100 Mpx, progressive 4:2:0": saved("RGB", 10000, 10000, "JPEG", progressive=True),
    "JPEG CMYK 60 Mpx": saved("CMYK", 10000, 6000, "JPEG"),
    "WebP 12.2 Mpx": saved("RGB", 4032, 3024, "WEBP"),
    "WebP 24 Mpx": saved("RGB", 6000, 4000, "WEBP"),
    "WebP 10 Mpx, lossless RGBA": saved("RGBA", 4000, 2500, "WEBP", lossless=True),
    "AVIF 8 Mpx": saved("RGB", 3600, 2400, "AVIF", speed=10),
    "AVIF 12.2 Mpx": saved("RGB", 4032, 3024, "AVIF", speed=10),
    "JPEG 2000 6 Mpx": saved("RGB", 3000, 2000, "JPEG2000"),
    "JPEG 2000 12.2 Mpx": saved("RGB", 4032, 3024, "JPEG2000"),
    "JPEG 24 Mpx, progressive, 1,000 more scans": rescanned(6000, 4000, times=1000),
    "JPEG 24 Mpx, progressive, 30 more scans": rescanned(6000, 4000, times=30),
    "HEIC 48 Mpx": saved("RGB", 8064, 6048, "HEIF", quality=30),
    "TIFF with 30 million offsets": long_tag(273, 4, 30_000_000),
    "GIF 45 Mpx": saved("L", 9000, 5000, "GIF"),
    "GIF 100 Mpx": saved("L", 10000, 10000, "GIF"),
    "BMP 40 Mpx": saved("RGB", 8000, 5000, "BMP"),
    "PPM 40 Mpx": saved("RGB", 8000, 5000, "PPM"),
    "TIFF RGB 40 Mpx": saved("RGB", 8000, 5000, "TIFF"),
    "TIFF RGB 100 Mpx": saved("RGB", 10000, 10000, "TIFF"),
    "TIFF RGB 100 Mpx, LZW, on its side": saved(
        "RGB", 10000, 10000, "TIFF", compression="tiff_lzw", tiffinfo={274: 6, 317: 2}
    ),
    "TIFF RGB 24 Mpx, deflate": saved("RGB", 6000, 4000, "TIFF", compression="tiff_deflate"),
    "TIFF RGB 20 Mpx, one strip": saved(
        "RGB", 5000, 4000, "TIFF", compression="tiff_deflate", tiffinfo={278: 4000}
    ),
    "TIFF RGB 24 Mpx, on its side": saved("RGB", 6000, 4000, "TIFF", tiffinfo={274: 6}),
    "TIFF RGB 39 Mpx, one strip": saved(
        "RGB", 7800, 5000, "TIFF", compression="tiff_lzw", tiffinfo={278: 5000}
    ),
    "TIFF float 16 Mpx": saved("F", 4000, 4000, "TIFF"),
    "TIFF int32 16 Mpx": saved("I", 4000, 4000, "TIFF"),
    "WebP, 2 GB of zeros after it": sparse(webp(TWO_GIGABYTES), TWO_GIGABYTES),
    "WebP, 149 MB of zeros after it": sparse(webp(MOST_FILE), MOST_FILE),
    "PNG with a chunk of 2 GB": sparse(PNG[:33] + struct.pack(">I", 2**31 - 1) + b"teXt", TWO_GIGABYTES),
    "PNG with a chunk of 149 MB": sparse(
        PNG[:33] + struct.pack(">I", MOST_FILE) + b"teXt", MOST_FILE + 45, PNG[33:]
    ),
    "PNG with an IDAT of 149 MB": sparse(
        PNG[:33] + struct.pack(">I", MOST_FILE) + b"IDAT" + PNG[41:-16], MOST_FILE + 45
    ),
    "JPEG, 149 MB of zeros before its header": sparse(JPEG[:2], MOST_FILE, JPEG[2:]),
    "JPEG, 149 MB of segments": repeated(JPEG[:2], SEGMENT, 2250, JPEG[2:]),
    "JPEG, 149 MB of zeros in its scan": sparse(JPEG[:-800], MOST_FILE, JPEG[-2:]),
    "JPEG, 2 GB of zeros in its scan": sparse(JPEG[:-800], TWO_GIGABYTES, JPEG[-2:]),
    "JPEG 3 Mpx, progressive, 164 KB of scans": rescanned(2000, 1500, times=3900),
    "JPEG 3 Mpx, progressive, 32 MB of scans": rescanned(2000, 1500, times=760_000),
    "JPEG 3 Mpx, progressive, 300 more scans": rescanned(2000, 1500, times=300),
    "JPEG 0.3 Mpx, progressive, 3,000 more scans": rescanned(640, 480, times=3000),
    "JPEG, empty segments": parts(JPEG, 2, b"\xff\xef\0\2"),
    "JPEG, empty segments, 149 MB": parts(JPEG, 2, b"\xff\xef\0\2", 149),
    "JPEG, comments of a byte": parts(JPEG, 2, b"\xff\xfe\0\3a"),
    "JPEG, fill bytes": parts(JPEG, 2, b"\xff"),
    "JPEG, tables": parts(JPEG, 2, JPEG[JPEG.index(b"\xff\xdb") :][:69]),
    "JPEG, frame headers": parts(JPEG, JPEG.index(b"\xff\xc0"), JPEG[JPEG.index(b"\xff\xc0") :][:19]),
    "JPEG, progressive, segments after its scans": parts(PROGRESSIVE, -2, b"\xff\xef\0\2"),
    "JPEG, progressive, restarts after its scans": parts(PROGRESSIVE, -2, b"\xff\xd0"),
    "JPEG, markers after its end": parts(PROGRESSIVE, len(PROGRESSIVE), b"\xff\xda\0\x08"),
    "JPEG 120 Mpx, cut off": claimed(12_000, 10_000, JPEG),
    "JPEG 240 Mpx, cut off": claimed(16_000, 15_000, JPEG),
    "JPEG 120 Mpx, a restart each block": claimed(12_000, 10_000, JPEG[:2] + b"\xff\xdd\0\4\0\1" + JPEG[2:]),
    "JPEG 100 Mpx, progressive, cut off": claimed(10_000, 10_000, PROGRESSIVE),
    "JPEG 45 Mpx of noise": noise("JPEG", 9000, 5000, quality=95),
    "PNG, empty chunks before the pixels": parts(PNG, 33, chunk(b"prVt", b"")),
    "PNG, empty chunks after the pixels": parts(PNG, -12, chunk(b"prVt", b"")),
    "PNG, texts of a byte": parts(PNG, 33, chunk(b"tEXt", b"a\0b")),
    "PNG, empty IDATs": parts(PNG, 33, chunk(b"IDAT", b"")),
    "PNG, packed texts of 60 MB": parts(PNG, 33, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(60_000_000))), 5),
    "PNG 24 Mpx of noise": noise("PNG", 6000, 4000, compress_level=1),
    "PNG of 30 frames": frames("PNG", 30, 2000),
    "GIF, blocks of a byte": parts(GIF[:781] + b"!\xfe\0" + GIF[781:], 783, b"\1a"),
    "GIF, a comment of 40 MB": parts(GIF[:781] + b"!\xfe\0" + GIF[781:], 783, b"\xff" + b"a" * 255),
    "GIF, comments of a byte": parts(GIF, 781, b"!\xfe\1a\0"),
    "GIF, empty extensions": parts(GIF, 781, b"!\1\0"),
    "GIF of 200 frames": frames("GIF", 200, 2000),
    "WebP of 60 frames": frames("WEBP", 60, 2000),
    "WebP 12 Mpx of noise": noise("WEBP", 4000, 3000, lossless=True, method=0),
    "AVIF 9 Mpx of noise": noise("AVIF", 3600, 2500, quality=100, speed=10),
    "JPEG 2000 6 Mpx of noise": noise("JPEG2000", 3000, 2000),
    "HEIC 12 Mpx of noise": noise("HEIF", 4000, 3000, quality=95),
    "JPEG 2000 with 65,025 tiles": tiles_2000(2550, 10),
    "JPEG 2000 with 15,876 tiles": tiles_2000(1260, 10),
    "TIFF with a tile of 16,000 x 16,000": tile(16_000),
    "TIFF with a tile of 24,000 x 24,000": tile(24_000),
    "TIFF of a JPEG with 95 scans, 12 Mpx": scans_in_tiff(4000, 3000, times=85),
    "TIFF of a JPEG with 95 scans, 36 Mpx": scans_in_tiff(6000, 6000, times=85),
    "TIFF of a JPEG with 5,000 scans": scans_in_tiff(2000, 1500, times=5000),
    "PPM, a comment of 40 MB": parts(b"P6\n#\n5 5\n255\n" + bytes(75), 4, b"a"),
    "PPM as text, 4 Mpx": text(b"P3\n2000 2000\n255\n", b"255 ", 48),
    "PPM as text, comments": text(b"P3\n2000 2000\n255\n", b"#\n"),
    "PPM of an odd maximum, 4 Mpx": text(b"P6\n2000 2000\n254\n", b"a", 12),
    "BMP of empty run lengths": parts(bmp(1000, b"\0\2\0\0" * 10**7), 0, b" ", 0),
}  # fmt: skip


def main() -> None:
    pillow_heif.register_heif_opener(thumbnails=False)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="files whose name holds this")
    only = parser.parse_args().only
    rows = list(measure([name for name in FILES if only in name]))
    for what, most in (("megabytes", MOST_MEGABYTES), ("seconds", MOST_SECONDS)):
        worst = max(rows, key=lambda row: row[what])
        print(f"most {what} of {len(rows)} files: {worst[what]} of {most} allowed, {worst['file']}")
    if only:
        return
    write_result("photograph_memory", {"files": rows, "most_megabytes": MOST_MEGABYTES, "most_seconds": MOST_SECONDS})


def measure(names: list[str]) -> Iterator[dict[str, object]]:
    """A row for each file: bytes, peak megabytes, seconds, and why it was refused."""
    with tempfile.TemporaryDirectory() as folder:
        read(Path(folder), "JPEG 24 Mpx warm-up", write=saved("RGB", 600, 400, "JPEG"))
        for name in names:
            row = read(Path(folder), name, write=FILES[name])
            numbers = f"{row['bytes']:>13,} B {row['megabytes']:6} MB {row['seconds']:6} s"
            print(f"{name:40s} {numbers}  {row['refused']}", flush=True)
            yield row


def read(folder: Path, name: str, *, write: Write) -> dict[str, object]:
    path = folder / "photograph"
    maker = multiprocessing.get_context("fork").Process(target=write, args=(path,))  # its memory goes with it
    maker.start()
    maker.join()
    size = path.stat().st_size
    note = folder / "note"

    def work() -> None:
        started, refused = time.process_time(), ""
        try:
            TRANSFORM(read_image(path, at_least=TRANSFORM.at_least))
        except MpfgvcError as error:
            refused = str(error).partition(f"{path}: ")[2]
        except MemoryError:
            refused = "MemoryError"
        note.write_text(json.dumps([round(time.process_time() - started, 2), refused]))

    megabytes = round(peak_megabytes(work))
    seconds, refused = json.loads(note.read_text())
    path.unlink()
    return {"file": name, "bytes": size, "megabytes": megabytes, "seconds": seconds, "refused": refused}


if __name__ == "__main__":
    main()
