"""Read the lists that come with a dataset, and say exactly what is wrong with one.

Every refusal names the file and, where there is one, the line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from mpfgvc.data.listing import missing_files
from mpfgvc.errors import ConfigError, DataError


def read_bytes(path: Path, setting: str | None = None) -> bytes:
    """The content of a file that the dataset must have, or that a setting names. Raises DataError, ConfigError."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        what = "is not a file" if path.exists() else "does not exist"
        if setting is not None:
            raise ConfigError(f"{setting}: {path} {what}; check the path") from None
        raise DataError(f"{path} {what}; data.root must be the folder of the unpacked dataset, whole") from None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}; check its permissions") from None


def read_text(path: Path, setting: str | None = None) -> str:
    """The same as text in UTF-8."""
    content = read_bytes(path, setting)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(f"{path} line {line} must be text in UTF-8; save the file in that encoding") from None


def read_lines(path: Path, setting: str | None = None) -> Iterator[tuple[int, str]]:
    """The lines of an index with their numbers from 1, without those that are blank.

    Refuses what would be misread in silence: another encoding, NUL bytes, spaces around a line.
    """
    for number, line in enumerate(read_text(path, setting).split("\n"), start=1):
        line = line.removesuffix("\r")
        if not line.strip():
            continue
        if "\0" in line:
            raise DataError(f"{path} line {number} holds a NUL byte; unpack the dataset again")
        if line != line.strip():
            raise DataError(f"{path} line {number} must not begin or end with spaces, got {line!r:.60}; remove them")
        yield number, line


def read_pairs(path: Path) -> dict[str, str]:
    """An index of lines `key value`; the value may hold spaces. Refuses a key that comes twice."""
    return {key: value for _, key, value in _rows(path)}


def read_numbers(path: Path, setting: str | None = None) -> dict[str, int]:
    """An index of lines `key number`."""
    return {key: _whole_number(value, f"{path} line {line}") for line, key, value in _rows(path, setting)}


def read_names(path: Path) -> dict[int, str]:
    """An index of lines `class-id class name`. Refuses a number that comes twice, as 1 and as 01."""
    names: dict[int, str] = {}
    for line, key, name in _rows(path):
        number = _whole_number(key, f"{path} line {line}")
        if number in names:
            raise DataError(f"{path} line {line} repeats the number {number}; remove one of the lines")
        names[number] = name
    return names


def refuse_repeated(index: Path, paths: Iterable[str]) -> None:
    """Refuse an index that names one file twice."""
    seen: set[str] = set()
    for path in paths:
        if path in seen:
            raise DataError(f"{index} names {path} twice; remove one of the two entries")
        seen.add(path)


def refuse_missing(index: Path, paths: Sequence[Path]) -> None:
    """Refuse an index that names what is not a file on the disk."""
    missing = missing_files(paths)
    special = next((path for path in missing if path.exists()), None)
    if special is not None:
        raise DataError(f"{index} names {special}, which is not a regular file; remove its entry")
    if missing:
        raise DataError(
            f"{index} names {len(paths)} files, {len(missing)} of them missing, first {missing[0]}; "
            "unpack the images again or remove their entries"
        )


def _rows(path: Path, setting: str | None = None) -> Iterator[tuple[int, str, str]]:
    """The number, the key and the value of each line."""
    seen: set[str] = set()
    for number, line in read_lines(path, setting):
        key, _, value = line.partition(" ")
        if not value.strip():
            raise DataError(f"{path} line {number} must hold two columns, got {line!r:.60}; restore the line")
        if key in seen:
            raise DataError(f"{path} line {number} repeats {key}, which must be unique; remove one of the lines")
        seen.add(key)
        yield number, key, value.strip()


def _whole_number(text: str, where: str) -> int:
    if re.fullmatch("-?[0-9]{1,18}", text) is None:
        raise DataError(f"{where} must be a whole number, got {text!r:.40}; restore the line")
    return int(text)
