"""User errors, and text from anywhere on one line.

Each error carries one line that names the setting or the file, the rule, the value got and the way out. The
command line prints that line and exits with code 2; Python callers catch `MpfgvcError`.
"""

import csv
import io
import re
import unicodedata
from collections.abc import Iterable, Sequence

_TURNS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_NUMBER = re.compile(r"[-+]?[0-9.]+(e[-+]?[0-9]+)?")


class MpfgvcError(Exception):
    """A user error; the message says what to do."""

    said_by_first = False
    """Whether the first of several processes has met the same error and says it."""


class ConfigError(MpfgvcError):
    """A setting is unknown, out of range, or does not fit another setting."""

    def __init__(self, line: str, *, setting: str | None = None):
        super().__init__(line)
        self.setting = setting
        """The dotted name of the setting that is refused, if it is one."""


class DataError(MpfgvcError):
    """A dataset, an index file or an image is missing, broken or contradictory."""


class CheckpointError(MpfgvcError):
    """A run folder or a saved model is missing, incomplete, or of another model."""


class OutputError(MpfgvcError):
    """Something could not be written: no space, no permission."""


def one_line(error: BaseException, most: int = 200) -> str:
    """What an exception of another library says, on one line of at most `most` characters."""
    return " ".join(str(error).split())[:most]


def printable(text: str) -> str:
    """Text on one line of a terminal: characters that steer it, or turn the direction of writing, are escaped."""
    return "".join(
        char.encode("unicode_escape").decode()
        if unicodedata.category(char) in ("Cc", "Zl", "Zp") or char in _TURNS
        else char
        for char in text
    )


def csv_text(rows: Iterable[Iterable[object]]) -> str:
    """Rows as CSV for people. Names in them are data: printable, and no formula for a spreadsheet.

    Text that would begin one (`=cmd`) begins with an apostrophe.
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([map(_cell, row) for row in rows])
    return text.getvalue()


def _cell(value: object) -> object:
    if not isinstance(value, str) or _NUMBER.fullmatch(value):
        return value
    return f"'{printable(value)}" if value.startswith(("=", "+", "-", "@")) else printable(value)


def check_known(setting: str, value: str, known: Sequence[str]) -> None:
    """Raise ConfigError unless `value` is one of the known words."""
    if value not in known:
        raise ConfigError(f"{setting} must be one of {', '.join(known)}, got {value!r:.40}")


def check_at_least(least: int, setting: str, value: int) -> None:
    """Raise ConfigError unless `value` is a whole number of at least `least`; True and False are not."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigError(f"{setting} must be a whole number of at least {least}, got {value!r:.40}")
