"""What a JPEG's header says about the memory that its decoding takes.

A JPEG of several scans (a progressive one, mostly) is held whole as coefficients
before its first pixel is made, however small it is decoded. One of a single scan is not.
"""

from __future__ import annotations

from mpfgvc.data.decoding.photo_file import PhotoFile

JPEG_SIGNATURE = b"\xff\xd8\xff"
MOST_HEADER = 64 * 1024**2
"""Bytes before the first scan: thumbnails, profiles, depth maps. Pillow keeps them all."""
MOST_JUNK = 64 * 1024
"""Bytes between two segments that belong to neither."""
_START_OF_SCAN = 0xDA
_FRAMES = frozenset({0xC0, 0xC1, 0xC2, 0xC3, 0xC9, 0xCA, 0xCB})
_PROGRESSIVE = frozenset({0xC2, 0xCA})
_BARE = frozenset({0x01, 0xFF, *range(0xD0, 0xD9)})  # markers without a length


def coefficient_bytes(file: PhotoFile) -> int:
    """Memory for the coefficients of a JPEG: 0 for one of a single scan, or whose header is broken.

    Leaves the file at the place where it was. Raises ValueError for a header without end.
    """
    place = file.tell()
    segments = _segments(file)
    file.seek(place)
    frame, progressive = b"", False
    for marker, segment in segments:
        if marker in _FRAMES:
            frame, progressive = segment, marker in _PROGRESSIVE
        if marker == _START_OF_SCAN:
            single = not progressive and len(frame) > 5 and segment[:1] >= frame[5:6]
            return 0 if single else _coefficients(frame)
    return 0


def _coefficients(frame: bytes) -> int:
    """Two bytes for each sample of each component, at its own sampling."""
    height, width = int.from_bytes(frame[1:3], "big"), int.from_bytes(frame[3:5], "big")
    samplings = [(frame[place] >> 4, frame[place] & 15) for place in range(7, len(frame), 3)]
    most = max((h for h, _ in samplings), default=1) * max((v for _, v in samplings), default=1)
    return 2 * height * width * sum(h * v for h, v in samplings) // max(1, most)


def _segments(file: PhotoFile) -> list[tuple[int, bytes]]:
    """The marker and the content of each frame and scan header. Raises ValueError for endless padding."""
    found: list[tuple[int, bytes]] = []
    place, junk = 2, 0
    while place < MOST_HEADER:
        file.seek(place)
        head = file.read(4)
        if len(head) < 4:
            return found
        marker = head[1]
        if head[0] != 0xFF or marker in _BARE or marker == 0:
            place += 1 if head[0] != 0xFF or marker == 0xFF else 2
            junk += 1
            if junk > MOST_JUNK:
                raise ValueError(f"it has more than {MOST_JUNK} bytes of padding in its header")
            continue
        length = int.from_bytes(head[2:], "big")
        if marker in _FRAMES or marker == _START_OF_SCAN:
            found.append((marker, file.read(max(0, length - 2))))
            if marker == _START_OF_SCAN:
                return found
        place += 2 + length
    raise ValueError(f"its header is longer than {MOST_HEADER / 1e6:.0f} MB")
