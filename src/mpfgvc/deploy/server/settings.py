"""What a server is told: its limits, its token, and the sites whose pages may ask it. No torch, no FastAPI."""

import re
from dataclasses import dataclass, field
from typing import Any

from mpfgvc.errors import ConfigError
from mpfgvc.processes import core_count

LOOPBACK = ("127.0.0.1", "::1", "localhost")
"""Names of this machine that nobody else can reach."""
_ORIGIN = re.compile(r"https?://[a-z0-9.\-]+(:\d{1,5})?|https?://\[[0-9a-f:]+\](:\d{1,5})?")


def _limit(usual: float, about: str) -> Any:
    return field(default=usual, metadata={"help": about})


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one request, and all requests together, may take: options of the command line.

    Raises ConfigError for a value that is out of range, named as the command line names it.
    """

    batch_size: int = _limit(32, "photographs that the model is given at a time, at most")
    wait: float = _limit(5.0, "milliseconds that a photograph waits for others to join its batch, at most")
    queue: int = _limit(128, "photographs that are read, wait or are in the model; more are refused with 503")
    max_photographs: int = _limit(16, "photographs of one request")
    max_megabytes: float = _limit(32.0, "size of one request, 10^6 bytes")
    max_megapixels: float = _limit(64.0, "size of one photograph, 10^6 pixels, read from its header")
    timeout: float = _limit(30.0, "seconds for an upload, and the same again for its answer")
    decoders: int = field(
        default_factory=lambda: min(8, core_count()), metadata={"help": "threads that decode photographs"}
    )

    def __post_init__(self) -> None:
        for name in ("batch_size", "queue", "max_photographs", "decoders"):
            _check(getattr(self, name) >= 1, name, "at least 1", getattr(self, name))
        for name in ("max_megabytes", "max_megapixels", "timeout"):
            _check(0 < getattr(self, name) < float("inf"), name, "above 0", getattr(self, name))
        _check(0 <= self.wait <= 10_000, "wait", "0 to 10000 ms", self.wait)

    @property
    def request_bytes(self) -> int:
        """Bytes of the body of one request; all requests together take at most eight times as many."""
        return int(self.max_megabytes * 1e6)


def checked_token(token: str | None) -> str | None:
    """The token, or None for a server without one. Raises ConfigError for one that no client could send."""
    if token is not None:
        fine = len(token) >= 8 and token.isascii() and token.isprintable() and " " not in token
        _check(fine, "token", "at least 8 printable ASCII characters without a space", f"{len(token)} characters")
    return token


def checked_origins(origins: list[str]) -> list[str]:
    """The origins, as browsers send them. Raises ConfigError for one that no browser would send."""
    for origin in origins:
        _check(_ORIGIN.fullmatch(origin) is not None, "origin", "an address such as https://lab.example", origin)
    return origins


def _check(fine: bool, name: str, rule: str, value: object) -> None:
    if not fine:
        raise ConfigError(f"--{name.replace('_', '-')} must be {rule}, got {value}")
