"""What is at a URL: single photographs, and shards that are fetched whole into a bounded folder.

HTTP needs nothing; other stores need fsspec and the store's package. The folder of fetched shards holds
`origin.json`: where they come from, and how many bytes of them may be kept; the oldest is removed first.
Any process may fetch: a shard takes its name when it is whole, and a lock keeps two processes of this
machine from fetching the same one.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from mpfgvc.errors import one_line

SECONDS = 60
"""How long a server may be silent."""
ORIGIN = "origin.json"
FSSPEC_HINT = "it needs fsspec and the package of its store: pip install fsspec s3fs"
"""Not the extra `remote`: beside mpfgvc-runtime that would install mpfgvc over it."""
_BLOCK = 1024**2
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://")


@dataclass(frozen=True)
class Remote:
    """A photograph at a URL; its text is the URL."""

    url: str

    def __str__(self) -> str:
        return self.url

    def read(self, most: int, /) -> bytes:
        """Its bytes, at most so many. Raises whatever the store raises."""
        with open_url(self.url) as file:
            content: bytes = file.read(most)
            return content


def is_url(name: str) -> bool:
    """Whether a name is a URL, not a path."""
    return _URL.match(name) is not None


def is_http(url: str) -> bool:
    """Whether a URL is one of the web, where single files can be had and nothing can be listed."""
    return url.startswith(("http://", "https://"))


def open_url(url: str) -> Any:
    """A context manager that gives the bytes at a URL as a file.

    Raises ValueError where fsspec is missing, and on the way whatever the store raises.
    """
    if is_http(url):
        return urllib.request.urlopen(url, timeout=SECONDS)  # noqa: S310
    try:
        import fsspec
    except ImportError:
        raise ValueError(FSSPEC_HINT) from None
    return fsspec.open(url, "rb")


def write_origin(folder: Path, url: str, most_bytes: int) -> None:
    """Make a folder the cache of the shards at `url`. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    content = json.dumps({"url": url.rstrip("/"), "most_bytes": most_bytes}) + "\n"
    file = folder / ORIGIN
    if not file.is_file() or file.read_text() != content:
        part = _part(folder)
        part.write_text(content)
        part.replace(file)


def is_fetched(folder: Path) -> bool:
    """Whether what is missing in a folder can be fetched."""
    return (folder / ORIGIN).is_file()


def fetch(file: Path, size: int | None = None) -> None:
    """Fetch a file of a folder from its origin, unless it is there by now.

    Raises ValueError with the reason in one line, for a file of another size than `size`, too.
    """
    from filelock import FileLock  # only here, as a deployed model fetches no shards

    origin = json.loads((file.parent / ORIGIN).read_text())
    with FileLock(file.parent / f".{file.name}.lock"):
        if file.exists():
            return
        part = _part(file.parent)
        try:
            with open_url(f"{origin['url']}/{file.name}") as source, part.open("wb") as target:
                shutil.copyfileobj(source, target, _BLOCK)
            got = part.stat().st_size
            if size is not None and got != size:
                raise ValueError(f"got {got} of {size} bytes")
            _make_room(file.parent, origin["most_bytes"] - got)
            part.replace(file)
        except Exception as error:  # stores fail in as many ways as they are made
            raise ValueError(f"cannot fetch {origin['url']}/{file.name}: {one_line(error)}") from None
        finally:
            part.unlink(missing_ok=True)


@contextmanager
def open_tar(tar: Path) -> Iterator[IO[bytes]]:
    """A tar file, fetched first if it is elsewhere. Raises OSError, ValueError if it cannot be fetched."""
    for _ in range(3):  # another process may remove it to make room
        with suppress(FileNotFoundError):
            file = tar.open("rb", buffering=0)
            break
        if not is_fetched(tar.parent):
            raise FileNotFoundError(tar)
        fetch(tar, _size_of(tar))
    else:
        raise ValueError(f"{tar.name} is removed as fast as it is fetched; raise data.cache_gb")
    with file:
        yield file


def _size_of(tar: Path) -> int | None:
    """The bytes that `shards.json` gives a shard; None if it does not say."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        shards = json.loads((tar.parent / "shards.json").read_bytes())["shards"]
        return next((int(size) for name, size, _ in shards if name == tar.name), None)
    return None


def _make_room(folder: Path, left: int) -> None:
    """Remove the shards that were fetched first until the others have at most `left` bytes."""
    shards = []
    for tar in folder.glob("*.tar"):
        with suppress(FileNotFoundError):  # another process makes room, too
            shards.append((tar.stat().st_mtime, tar.stat().st_size, tar))
    held = sum(size for _, size, _ in shards)
    for _, size, tar in sorted(shards):
        if held <= left:
            return
        tar.unlink(missing_ok=True)
        held -= size


def _part(folder: Path) -> Path:
    """A new hidden file; a kill leaves it, and nothing reads it."""
    descriptor, name = tempfile.mkstemp(prefix=".fetch-", dir=folder)
    os.close(descriptor)
    return Path(name)
