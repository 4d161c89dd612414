"""What is elsewhere, named by a URL. HTTP needs nothing; other stores need fsspec and the store's package."""

from __future__ import annotations

import re
import urllib.request
from dataclasses import dataclass
from typing import Any

SECONDS = 60
"""How long a server may be silent."""
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://")


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
        raise ValueError("it needs fsspec and the package of its store: pip install fsspec s3fs") from None
    return fsspec.open(url, "rb")


@dataclass(frozen=True)
class Remote:
    """A photograph at a URL; its text is the URL."""

    url: str

    def __str__(self) -> str:
        return self.url

    def read(self, most: int) -> bytes:
        """Its bytes, at most so many. Raises whatever the store raises."""
        with open_url(self.url) as file:
            content: bytes = file.read(most)
            return content
