"""Read the lists that come with a dataset, and say exactly what is wrong with one.

Every refusal names the file and, where there is one, the line.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from mpfgvc.data.samples import in_short
from mpfgvc.errors import DataError


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of an index with their numbers from 1, without those that are blank."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        hint = "data.root must be the folder of the unpacked dataset, whole"
        raise DataError(f"{path} does not exist; {hint}") from None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}; check the file's permissions") from None
    except UnicodeDecodeError:
        raise DataError(f"{path} must be text in UTF-8; unpack the dataset again") from None
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            yield number, line.strip()


def read_pairs(path: Path) -> dict[str, str]:
    """An index of lines `key value`; the value may hold spaces. Refuses a key that comes twice."""
    pairs: dict[str, str] = {}
    for number, line in read_lines(path):
        key, _, value = line.partition(" ")
        if not value.strip():
            raise DataError(f"{path} line {number} must hold two columns, got {line!r:.60}; restore the line")
        if key in pairs:
            raise DataError(
                f"{path} line {number} repeats {key}, which must be unique; remove one of the lines"
            )
        pairs[key] = value.strip()
    return pairs


def read_numbers(path: Path) -> dict[str, int]:
    """An index of lines `key number`."""
    return {key: whole_number(value, f"{path}, entry {key},") for key, value in read_pairs(path).items()}


def read_names(path: Path) -> dict[int, str]:
    """An index of lines `class-id class name`."""
    return {whole_number(key, f"{path}, entry {key},"): name for key, name in read_pairs(path).items()}


def whole_number(text: str, where: str) -> int:
    """The number that `text` spells, or a DataError that begins with `where`."""
    try:
        return int(text)
    except ValueError:
        raise DataError(f"{where} must be a whole number, got {text!r:.40}; restore the line") from None


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
    """Refuse an index that names files which are not on the disk. Lists each folder once."""
    listed = {folder: _listing(folder) for folder in {path.parent for path in paths}}
    missing = [path for path in paths if path.name not in listed[path.parent]]
    if missing:
        raise DataError(
            f"{index} names {len(paths)} files, {len(missing)} of them missing, first {missing[0]}; "
            "unpack the images again or remove their entries"
        )


def _listing(folder: Path) -> set[str]:
    try:
        return {entry.name for entry in os.scandir(folder)}
    except OSError:
        return set()
