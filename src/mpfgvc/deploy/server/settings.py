"""What a server is told: its limits and its token. No torch, no FastAPI."""

from dataclasses import dataclass

from mpfgvc.errors import ConfigError

LOOPBACK = ("127.0.0.1", "::1", "localhost")
"""Names of this machine that nobody else can reach."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one request, and all requests together, may take.

    Raises ConfigError for a value that is out of range, named as the command line names it.
    """

    batch_size: int = 32
    """Photographs that the model is given at a time, at most."""
    wait: float = 5.0
    """Milliseconds that a photograph waits for others to join its batch, at most."""
    queue: int = 128
    """Photographs that are being decoded, are waiting or are in the model; one more is refused."""
    max_photographs: int = 16
    """Photographs of one request."""
    max_megabytes: float = 32.0
    """Size of the body of one request, 10^6 bytes."""
    max_megapixels: float = 64.0
    """Size of one photograph, 10^6 pixels; it is read from the header."""
    timeout: float = 30.0
    """Seconds for the upload of a request, and the same again for its answer."""
    decoders: int = 2
    """Threads that decode photographs."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "queue", "max_photographs", "decoders"):
            _check(getattr(self, name) >= 1, name, "at least 1", getattr(self, name))
        for name in ("max_megabytes", "max_megapixels", "timeout"):
            _check(0 < getattr(self, name) < float("inf"), name, "above 0", getattr(self, name))
        _check(0 <= self.wait <= 10_000, "wait", "0 to 10000 ms", self.wait)

    @property
    def request_bytes(self) -> int:
        """Bytes of the body of one request."""
        return int(self.max_megabytes * 1e6)

    @property
    def pixels(self) -> int:
        """Pixels of one photograph."""
        return int(self.max_megapixels * 1e6)

    @property
    def all_bytes(self) -> int:
        """Bytes that the uploads of all requests may take in memory together."""
        return 8 * self.request_bytes


def checked_token(token: str | None) -> str | None:
    """The token, or None for a server without one. Raises ConfigError for one that no client could send."""
    if token is None:
        return None
    fine = len(token) >= 8 and token.isascii() and token.isprintable() and " " not in token
    _check(fine, "token", "at least 8 printable ASCII characters without a space", f"{len(token)} characters")
    return token


def _check(fine: bool, name: str, rule: str, value: object) -> None:
    if not fine:
        raise ConfigError(f"--{name.replace('_', '-')} must be {rule}, got {value}")
