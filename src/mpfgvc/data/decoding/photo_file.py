"""The bytes of one photograph, handed to a decoder within limits.

- Only regular files are opened: a FIFO or a device would block for ever.
- A photograph inside a tar file (packed.py) is read from its place there, one at a URL (remote.py) whole.
- A file may have at most `MOST_BYTES`, and a decoder may take at most
  `MOST_BLOCK` of them at once. Some decoders read whatever length a file claims.
- A PNG is read without its long text, color profile and unknown chunks. Pillow
  refuses a PNG whose text is longer than a limit that is global to the process;
  none of these chunks changes a pixel here.
"""

from __future__ import annotations

import io
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from mpfgvc.data.remote import Remote
from mpfgvc.data.tars import Packed, is_packed, locate

Source = str | Path | Packed | Remote | IO[bytes]
"""What a photograph may be read from."""
MOST_BYTES = 512 * 1024**2
MOST_BLOCK = 64 * 1024**2
MOST_CHUNKS = 200_000
"""Chunks of a PNG. They mostly hold 8 KiB, and the largest file has 65,536 of these."""
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_LONG_CHUNK = 1024**2
_COMPRESSED = (b"zTXt", b"iCCP")  # a kilobyte may expand to a megabyte
_TEXT_KEPT = 4 * 1024**2

Run = tuple[int, int]
"""The first byte of a part of a file, and the byte after its last."""


class PhotoFile:
    """Parts of an open file, as one file that is read and never written, for Pillow's decoders."""

    def __init__(self, file: IO[bytes], runs: list[Run]) -> None:
        self._file = file
        self._runs = runs
        self.size = sum(end - start for start, end in runs)
        self._place = 0
        if len(runs) == 1 and runs[0][0] == 0:
            self.fileno = file.fileno  # only what is the whole file may be read past this object
        self.seek(0)

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes; all that are left without one. Raises ValueError for more than MOST_BLOCK."""
        left = max(0, self.size - self._place)
        wanted = left if size is None or size < 0 else min(size, left)
        if wanted > MOST_BLOCK:
            raise ValueError(
                f"a block of {wanted / 1e6:.0f} MB is larger than the {MOST_BLOCK / 1e6:.0f} MB allowed"
            )
        parts = [self._file.read(count) for count in self._steps(wanted)]
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def seek(self, place: int, whence: int = io.SEEK_SET) -> int:
        """Go to a byte, as files do."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self.size}[whence]
        if start + place < 0:
            raise ValueError("the file points before its own start")
        self._place = start + place
        passed = 0
        for start, end in self._runs:
            if self._place < passed + end - start:
                self._file.seek(start + self._place - passed)
                break
            passed += end - start
        return self._place

    def tell(self) -> int:
        """The place of the next byte."""
        return self._place

    def flush(self) -> None:
        """Nothing to write."""

    def close(self) -> None:
        """Nothing: who opened the file closes it."""

    def _steps(self, wanted: int) -> Iterator[int]:
        """How many bytes to read at a time, run after run; moves on as they are read."""
        passed = 0
        for start, end in self._runs:
            here = min(wanted, passed + end - start - self._place)
            if here > 0:
                self._file.seek(start + self._place - passed)
                self._place += here
                wanted -= here
                yield here
            passed += end - start


@contextmanager
def open_photo(source: Source) -> Iterator[PhotoFile]:
    """The bytes of a photograph. Raises OSError or ValueError for anything but a regular file."""
    if isinstance(source, Packed) or (isinstance(source, str | Path) and is_packed(source)):
        packed = source if isinstance(source, Packed) else locate(Path(source))
        _refuse_large(packed.member.size)
        yield _photo_file(io.BytesIO(packed.read()))
    elif isinstance(source, Remote):
        yield _photo_file(io.BytesIO(source.read(MOST_BYTES + 1)))
    elif isinstance(source, str | Path):
        _refuse_special(Path(source))
        with Path(source).open("rb") as file:
            yield _photo_file(file)
    else:
        yield _photo_file(source)


def _refuse_special(path: Path) -> None:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        kinds = {stat.S_IFDIR: "directory", stat.S_IFIFO: "FIFO", stat.S_IFSOCK: "socket"}
        raise ValueError(f"it is a {kinds.get(stat.S_IFMT(status.st_mode), 'device')}, not a regular file")


def _refuse_large(size: int) -> None:
    if size > MOST_BYTES:
        raise ValueError(
            f"its {size / 1e6:.0f} MB are more than the {MOST_BYTES / 1e6:.0f} MB a photograph may have"
        )


def _photo_file(file: IO[bytes]) -> PhotoFile:
    size = file.seek(0, io.SEEK_END)
    _refuse_large(size)
    file.seek(0)
    is_png = file.read(len(PNG_SIGNATURE)) == PNG_SIGNATURE
    return PhotoFile(file, _png_runs(file, size) if is_png else [(0, size)])


def _png_runs(file: IO[bytes], size: int) -> list[Run]:
    """What is left of a PNG, as long as its chunks make sense; the decoder refuses the rest."""
    runs = [(0, len(PNG_SIGNATURE))]
    text_kept = 0
    for start, kind, length in png_chunks(file):
        end = min(start + length + 12, size)
        ancillary = kind[:1].islower()
        if not ancillary and kind != b"IDAT" and length > _LONG_CHUNK:
            raise ValueError(f"it has a {kind.decode('latin-1')} chunk of {length / 1e6:.0f} MB")
        text_kept += length if ancillary and length <= _LONG_CHUNK else 0
        if ancillary and (
            kind in _COMPRESSED
            or length > _LONG_CHUNK
            or text_kept > _TEXT_KEPT
            or (kind == b"iTXt" and _is_compressed(file, start, length))
        ):
            continue
        if runs[-1][1] == start:
            runs[-1] = (runs[-1][0], end)
        else:
            runs.append((start, end))
    return runs


def png_chunks(file: IO[bytes] | PhotoFile) -> Iterator[tuple[int, bytes, int]]:
    """The place, the kind and the length of each chunk of a PNG, up to its end or its first nonsense."""
    start = len(PNG_SIGNATURE)
    for _ in range(MOST_CHUNKS):
        file.seek(start)
        head = file.read(8)
        if len(head) < 8:
            return
        length, kind = struct.unpack(">I4s", head)
        yield start, kind, length
        if kind == b"IEND" or not kind.isalpha():
            return
        start += length + 12
    raise ValueError(f"it has more than {MOST_CHUNKS} chunks")


def _is_compressed(file: IO[bytes], start: int, length: int) -> bool:
    """Whether an international text chunk is: a flag after its keyword, which ends with a zero."""
    file.seek(start + 8)
    head = file.read(min(length, 82))
    rest = head.partition(b"\0")[2]
    return rest[:1] != b"\0"
