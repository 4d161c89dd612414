"""How a setting is refused: one line with its name, its rule and the value that was given."""

import math

from mpfgvc.errors import ConfigError


def check(fine: bool, setting: str, rule: str, value: object) -> None:
    """Raise ConfigError unless `fine`."""
    if not fine:
        raise ConfigError(f"{setting} {rule}, got {value}")


def check_range(setting: str, value: float | None, low: float, high: float | None) -> None:
    """Refuse a number outside low..high; None always passes."""
    if value is None or (math.isfinite(value) and value >= low and (high is None or value <= high)):
        return
    rule = f"must be at least {low:g}" if high is None else f"must be between {low:g} and {high:g}"
    raise ConfigError(f"{setting} {rule}, got {value}")
