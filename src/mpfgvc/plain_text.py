"""Text from anywhere, on one line of a terminal."""

import unicodedata


def printable(text: str) -> str:
    """Text on one line: control characters, which could steer a terminal, are escaped."""
    return "".join(
        each.encode("unicode_escape").decode() if unicodedata.category(each) in ("Cc", "Zl", "Zp") else each
        for each in text
    )
