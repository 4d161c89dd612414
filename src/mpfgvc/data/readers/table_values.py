"""What a cell of a table says as text; a cell that holds anything else is refused."""

from __future__ import annotations

import math
import re
from decimal import Decimal

from mpfgvc.errors import DataError


def text_of(value: object, where: str) -> str:
    """The text in a cell, empty for a missing one; a whole float is written as a whole number.

    Raises DataError, beginning with `where`, for lists, fractions, bytes that are not UTF-8, and
    text with a line break or a NUL, as an open quote leaves it.
    """
    if value is None:
        return ""
    if isinstance(value, str | bytes):
        return _checked(value, where)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float | Decimal):
        return _whole(value, where)
    raise DataError(f"{where} must be text or a whole number, got {type(value).__name__}; write it as text")


def number_of(text: str) -> int | None:
    """The whole number that a text spells, as `7`, `07` or `7.0`; None for any other text."""
    found = re.fullmatch(r"(-?[0-9]{1,18})(\.0+)?", text)
    return None if found is None else int(found[1])


def _checked(value: str | bytes, where: str) -> str:
    try:
        text = value.decode("utf-8") if isinstance(value, bytes) else value
    except UnicodeDecodeError:
        raise DataError(f"{where} must be text in UTF-8, got {value!r:.60}; write it as text") from None
    if any(each in text for each in "\r\n\0"):
        raise DataError(f"{where} must be on one line, got {text!r:.60}; look for a quote that is not closed")
    return text


def _whole(value: float | Decimal, where: str) -> str:
    if math.isnan(value):
        return ""
    if math.isinf(value) or value != int(value):
        raise DataError(f"{where} must be text or a whole number, got {value}; write it as text")
    return str(int(value))
