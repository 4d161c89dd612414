"""Standard output: text, JSON, JSON lines and CSV, whatever its encoding and whoever reads it.

File names and class names may contain bytes that are not UTF-8. Text and CSV print such bytes as they
are, and escape the characters that the encoding lacks. JSON escapes both and stays valid, and
`os.fsencode` of a name in it gives the bytes of the file. Every write is flushed, so the output is
whole after Ctrl-C. A reader that goes away (`| head`) ends the command quietly.
"""

import codecs
import io
import json
import os
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from mpfgvc.errors import OutputError, csv_text, printable
from mpfgvc.processes import Processes

_KEEP_NAMES = "mpfgvc.keep-names"


class ReaderGoneError(Exception):
    """The program that read standard output has gone."""


def prepare_streams() -> None:
    """Let standard output and standard error take any name."""
    codecs.register_error(_KEEP_NAMES, _keep_names)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_KEEP_NAMES)


def write(text: str) -> None:
    """Write to standard output at once. Raises ReaderGoneError, or OutputError for a full disk."""
    if sys.stdout is None:
        raise OutputError("cannot write to standard output: it is closed; open it or redirect it to a file")
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_the_rest()
        raise ReaderGoneError from None
    except OSError as error:
        _discard_the_rest()
        reason = error.strerror or str(error)
        hint = "make room or redirect it elsewhere"
        raise OutputError(f"cannot write to standard output: {reason}; {hint}") from None


def write_line(line: str) -> None:
    """Write one line to standard output."""
    write(line + "\n")


def write_json(document: Any) -> None:
    """Write the one JSON document of a command."""
    write_line(_json(document, indent=2))


def write_json_line(document: Any) -> None:
    """Write a JSON document on a line of its own."""
    line = _json(document, indent=None)
    if len(line.splitlines()) > 1:  # U+2028 and its like end a line for some readers
        line = json.dumps(document)
    write_line(line)


def write_csv_row(cells: Iterable[object]) -> None:
    """Write a row of CSV."""
    write(csv_text([cells]))


def write_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, text: Sequence[int] = (0,)) -> None:
    """Write a table without lines; the columns `text` are aligned left, the others right.

    Names in it are data: no control character reaches the terminal.
    """
    cells = [[printable(cell) for cell in row] for row in (columns, *rows)]
    widths = [max(map(_width, column)) for column in zip(*cells, strict=True)]
    lines = []
    for row in cells:
        room = [" " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True)]
        parts = [
            cell + gap if number in text else gap + cell
            for number, (cell, gap) in enumerate(zip(row, room, strict=True))
        ]
        lines.append("  ".join(parts).rstrip() + "\n")
    write("".join(lines))


def _width(text: str) -> int:
    """The columns of a terminal that a text takes; Chinese, Japanese and Korean signs take two."""
    return sum(unicodedata.east_asian_width(sign) in "WF" for sign in text) + sum(
        not unicodedata.combining(sign) for sign in text
    )


class JsonArray:
    """A JSON array that is written element by element, and closed even after Ctrl-C."""

    def __init__(self) -> None:
        self.opening = "[\n"

    def __enter__(self) -> Self:
        return self

    def add(self, document: Any) -> None:
        """Write the next element."""
        write(self.opening + _json(document, indent=2))
        self.opening = ",\n"

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the array. A refusal before the first element leaves standard output empty."""
        if isinstance(error, ReaderGoneError | OutputError):
            return
        if self.opening == ",\n":
            write("\n]\n")
        elif error is None or isinstance(error, KeyboardInterrupt):
            write("[]\n")


def is_first_process() -> bool:
    """Whether this is the process that speaks: the only one, or the first of those that were launched."""
    return Processes.here().is_first


def _json(document: Any, *, indent: int | None) -> str:
    """JSON in the characters of UTF-8, or with ASCII escapes where standard output cannot hold them."""
    text = json.dumps(document, indent=indent, ensure_ascii=False)
    encoding = codecs.lookup(getattr(sys.stdout, "encoding", None) or "utf-8").name
    try:
        text.encode()
    except UnicodeEncodeError:
        encoding = ""
    return text if encoding == "utf-8" else json.dumps(document, indent=indent)


def _keep_names(error: UnicodeError) -> tuple[str | bytes, int]:
    """Encode what an encoding lacks: bytes of a file name as they are, anything else as an escape."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character = error.object[error.start]
    is_byte = "\udc80" <= character <= "\udcff"
    return character.encode("ascii", "surrogateescape" if is_byte else "backslashreplace"), error.start + 1


def _discard_the_rest() -> None:
    """Send what is still in the buffer nowhere; otherwise the interpreter would fail on it at exit."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
