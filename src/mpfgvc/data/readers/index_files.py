"""Read the lists that come with a dataset, and say exactly what is wrong with one.

Every refusal names the file and, where there is one, the line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from mpfgvc.data.listing import missing_files, readable
from mpfgvc.data.samples import in_short
from mpfgvc.errors import ConfigError, DataError


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of an index with their numbers from 1, without those that are blank.

    Refuses what would be misread in silence: another encoding, NUL bytes, spaces around a line.
    """
    for number, line in enumerate(read_text(path).split("\n"), start=1):
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


def read_numbers(path: Path) -> dict[str, int]:
    """An index of lines `key number`."""
    return {key: whole_number(value, f"{path} line {line}") for line, key, value in _rows(path)}


def read_names(path: Path) -> dict[int, str]:
    """An index of lines `class-id class name`. Refuses a number that comes twice, as 1 and as 01."""
    names: dict[int, str] = {}
    for line, key, name in _rows(path):
        number = whole_number(key, f"{path} line {line}")
        if number in names:
            raise DataError(f"{path} line {line} repeats the number {number}; remove one of the lines")
        names[number] = name
    return names


def whole_number(text: str, where: str) -> int:
    """The number that `text` spells in the digits 0 to 9, or a DataError that begins with `where`."""
    if re.fullmatch("-?[0-9]{1,18}", text) is None:
        raise DataError(f"{where} must be a whole number, got {text!r:.40}; restore the line")
    return int(text)


def check_file(setting: str, path: Path) -> None:
    """Refuse a setting whose path is not a file. Raises ConfigError, or DataError for a closed folder."""
    with readable(path.parent):
        state = "" if path.is_file() else "is not a file" if path.exists() else "does not exist"
    if state:
        raise ConfigError(f"{setting}: {path} {state}; check the path")


def decode(content: bytes, path: Path) -> str:
    """The text of a file in UTF-8. Raises DataError with the line that is not."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(f"{path} line {line} must be text in UTF-8; save the file in that encoding") from None


def read_text(path: Path) -> str:
    """The text of a file in UTF-8. Raises DataError."""
    try:
        return decode(path.read_bytes(), path)
    except FileNotFoundError:
        hint = "data.root must be the folder of the unpacked dataset, whole"
        raise DataError(f"{path} does not exist; {hint}") from None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}; check the file's permissions") from None


def _rows(path: Path) -> list[tuple[int, str, str]]:
    """The number, the key and the value of each line."""
    rows: dict[str, tuple[int, str, str]] = {}
    for number, line in read_lines(path):
        key, _, value = line.partition(" ")
        if not value.strip():
            raise DataError(f"{path} line {number} must hold two columns, got {line!r:.60}; restore the line")
        if key in rows:
            raise DataError(f"{path} line {number} repeats {key}, which must be unique; remove one of the lines")
        rows[key] = (number, key, value.strip())
    return list(rows.values())


def refuse_unmatched(path: Path, keys: Iterable[str], wanted: Iterable[str], what: str) -> None:
    """Refuse an index at `path` that lacks one of the `wanted` image ids."""
    held = set(keys)
    lacking = [key for key in wanted if key not in held]
    if lacking:
        raise DataError(
            f"{path} gives no {what} for {len(lacking)} images of images.txt: {in_short(lacking)}; "
            "take all index files from one release"
        )


def refuse_repeated(index: Path, paths: Iterable[str | Path]) -> None:
    """Refuse an index that names one file twice."""
    seen: set[str | Path] = set()
    for path in paths:
        if path in seen:
            raise DataError(f"{index} names {path} twice; remove one of the two entries")
        seen.add(path)


def refuse_missing(index: Path, paths: Sequence[Path]) -> None:
    """Refuse an index that names what is not a file on the disk."""
    missing = missing_files(paths)
    if not missing:
        return
    special = next((path for path in missing if path.exists()), None)
    if special is not None:
        raise DataError(f"{index} names {special}, which is not a regular file; remove its entry")
    raise DataError(
        f"{index} names {len(paths)} files, {len(missing)} of them missing, first {missing[0]}; "
        "unpack the images again or remove their entries"
    )
