"""Clients of a server on this machine, good and bad ones, on bare sockets, so that they cost little.

The bad ones send what no client should: junk, bombs, cut and slow uploads, wrong tokens.
"""

import asyncio
import random
import struct
import time
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import cycle, islice
from urllib.parse import urlsplit

from PIL import Image

BOUNDARY = "x-mpfgvc-x"
FORM = f"multipart/form-data; boundary={BOUNDARY}"
NOTHING = 0
"""The status of a request that gets no answer, and should not: its client went away, or sent no HTTP."""


@dataclass(frozen=True)
class Bad:
    """The bytes of a request and how to send them: seconds between its parts, or not to its end."""

    parts: Sequence[bytes]
    pause: float = 0.0
    leaves: bool = False
    """Whether the client closes the connection before it could have an answer."""


def form(*files: bytes, name: str = "a.jpg") -> bytes:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="photograph"; filename="{name}"\r\n\r\n'
    return b"".join(head.encode() + each + b"\r\n" for each in files) + f"--{BOUNDARY}--\r\n".encode()


def request(body: bytes, *, path: str = "/classify", kind: str = FORM, token: str = "", more: str = "") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
    authority = f"Authorization: Bearer {token}\r\n" if token else ""
    return f"{head}{authority}{more}\r\n".encode("latin-1") + body


async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, sent: bytes) -> tuple[int, bytes]:
    """The status and the body of the answer to one request on an open connection."""
    writer.write(sent)
    await writer.drain()
    return await answer(reader)


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    length = int(head.partition("content-length:")[2].split("\r\n")[0] or 0)
    return int(head.split()[1]), await reader.readexactly(length)


async def connect(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    place = urlsplit(url)
    return await asyncio.open_connection(place.hostname, place.port)


async def load(
    url: str, requests: list[bytes], count: int, seconds: float
) -> tuple[Counter[int], list[tuple[int, float]]]:
    """Statuses and seconds of `count` clients that ask one question after the other, for a while."""
    until = time.perf_counter() + seconds
    taken: list[tuple[int, float]] = []

    async def client(first: int) -> None:
        reader, writer = await connect(url)
        for sent in islice(cycle(requests), first, None):
            started = time.perf_counter()
            if started >= until:
                break
            status, _ = await exchange(reader, writer, sent)
            if time.perf_counter() < until:
                taken.append((status, time.perf_counter() - started))
        writer.close()

    await asyncio.gather(*(client(4 * number) for number in range(count)))
    return Counter(status for status, _ in taken), taken


async def misbehave(url: str, bad: Bad, *, patience: float) -> int:
    """Send it; the status of the answer, NOTHING if the connection was closed without one.

    Raises TimeoutError where the server neither answers nor closes within `patience` seconds.
    """
    async with asyncio.timeout(patience):
        reader, writer = await connect(url)
        try:
            for part in bad.parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(bad.pause)
            return NOTHING if bad.leaves else (await answer(reader))[0]
        except (ConnectionError, asyncio.IncompleteReadError):
            return NOTHING
        finally:
            writer.close()


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims so many pixels."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(bytes(100_000), 9)), (b"IEND", b"")]
    parts = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def scan_bomb(rng: random.Random) -> bytes:
    """A progressive JPEG whose last scan comes thousands of times, each time for the price of 16 bytes."""
    file, side = BytesIO(), rng.choice((300, 1000, 4000))
    Image.new("L", (side, side), 128).save(file, "JPEG", progressive=True)
    content = file.getvalue()
    times = rng.choice((10, 1000, 30_000))
    return content[:-2] + content[content.rindex(b"\xff\xda") : -2] * times + content[-2:]


def flat(rng: random.Random) -> bytes:
    """A flat picture of up to 36 megapixels, which takes few bytes in any of these formats."""
    file, side = BytesIO(), rng.choice((2000, 4000, 6000))
    Image.new("L", (side, side), 128).save(file, rng.choice(("PNG", "GIF", "WEBP", "JPEG2000", "AVIF")))
    return file.getvalue()


def bad_requests(photograph: bytes, token: str, rng: random.Random) -> dict[str, Callable[[], Bad]]:
    """What makes a bad request of each kind; `good` among them is what a server must still answer."""

    def ask(body: bytes, **more: str) -> Bad:
        return Bad([request(body, token=token, **more)])

    def damaged() -> bytes:
        content = bytearray(photograph)
        for _ in range(rng.randint(1, 20)):
            content[rng.randrange(len(content))] = rng.randrange(256)
        return bytes(content)

    def cut() -> Bad:
        whole = request(form(photograph), token=token)
        return Bad([whole[: rng.randrange(1, len(whole))]], leaves=True)

    def slow() -> Bad:
        whole = request(form(photograph), token=token)
        step = len(whole) // 4 + 1
        return Bad([whole[at : at + step] for at in range(0, len(whole), step)], pause=0.5)

    options = ("top=0", "top=x", "url=http://127.0.0.1/", "set=2", "abstain=nan", "%ff=%00", "top=1&top=2", "set=1e999")
    paths = ("/classify", "/explain", "/embed", "/similar", "/docs", "/../etc/passwd", "/%00", "/classes")
    scan_bombs, flat_ones = [scan_bomb(rng) for _ in range(12)], [flat(rng) for _ in range(12)]
    kinds = ("application/json", "image/jpeg", "", "multipart/form-data", "multipart/form-data; boundary=", "a/b;=;")
    return {
        "good": lambda: ask(form(photograph)),
        "truncated photograph": lambda: ask(form(photograph[: rng.randrange(len(photograph))])),
        "damaged photograph": lambda: ask(form(damaged())),
        "junk instead of a photograph": lambda: ask(form(rng.randbytes(rng.randrange(2000)))),
        "bomb": lambda: ask(form(bomb(rng.choice((9_000, 30_000, 65_000)), rng.choice((1, 9_000, 60_000))))),
        "scan bomb": lambda: ask(form(rng.choice(scan_bombs))),
        "flat bomb": lambda: ask(form(rng.choice(flat_ones))),
        "address": lambda: ask(form(b"http://127.0.0.1/bird.jpg")),
        "junk in the form": lambda: ask(f"--{BOUNDARY}\r\n".encode() + rng.randbytes(rng.randrange(500))),
        "another type": lambda: ask(rng.randbytes(200), kind=rng.choice(kinds)),
        "too many photographs": lambda: ask(form(*[b"x"] * 40)),
        "wrong option": lambda: ask(form(photograph), path=f"/classify?{rng.choice(options)}"),
        "another path": lambda: ask(form(photograph), path=rng.choice(paths)),
        "wrong token": lambda: Bad([request(form(photograph), token=token[:-1] + "?")]),
        "no token": lambda: Bad([request(form(photograph))]),
        "huge head": lambda: ask(b"", more=f"X-Long: {'x' * 100_000}\r\n"),
        "no HTTP": lambda: Bad([rng.randbytes(rng.randrange(1, 300)) + b"\r\n\r\n"]),
        "cut connection": cut,
        "slow upload": slow,
    }
