"""The rules for what callers of the Python API pass, each refused in one line before any work."""

from collections.abc import Sequence

from mpfgvc.errors import ConfigError


def refuse_unknown(setting: str, value: str, known: Sequence[str]) -> None:
    """Raise ConfigError unless `value` is one of the known words."""
    if value not in known:
        raise ConfigError(f"{setting} must be one of {', '.join(known)}, got {value!r:.40}")


def refuse_below(least: int, setting: str, value: int) -> None:
    """Raise ConfigError unless `value` is a whole number of at least `least`; True and False are not."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigError(f"{setting} must be a whole number of at least {least}, got {value!r:.40}")
