"""JSON that is read as it was meant, or refused: nothing is converted, dropped or filled in.

Python's own reader takes NaN, keeps the last of two equal keys, and leaves every type to
its caller. `read_json` refuses the first two, and `typed` makes a value of exactly
the type that a dataclass declares for its field.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, NoReturn, get_args, get_origin, get_type_hints

from mpfgvc.errors import CheckpointError, ConfigError, one_line

_WORDS: dict[Any, str] = {
    int: "a whole number",
    float: "a finite number",
    str: "text",
    bool: "true or false",
    NoneType: "null",
}


def read_json(path: Path, *, most_bytes: int) -> object:
    """The document in a file of UTF-8 text. Raises CheckpointError in one line naming the file."""
    try:
        if not path.is_file():
            raise CheckpointError(f"{path} is missing or not a regular file; restore it or train again")
        if (size := path.stat().st_size) > most_bytes:
            rule = f"must be at most {most_bytes} bytes, got {size}"
            raise CheckpointError(f"{path} {rule}; restore it or train again")
        text = path.read_bytes().decode("utf-8")
        return parse_json(text)
    except (OSError, ValueError, RecursionError) as error:
        hint = "restore it or train again"
        raise CheckpointError(f"cannot read {path}: {one_line(error)}; {hint}") from None


def parse_json(text: str) -> object:
    """The document in a text. Raises ValueError or RecursionError."""
    return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)


def typed(kind: Any, value: object, name: str) -> Any:
    """`value` as the type `kind`: a dataclass, a tuple, a list, a Literal, a union or a plain type.

    Numbers are finite; a whole number may stand for a float, nothing else is converted. `name` is
    what errors call the value. Raises ConfigError.
    """
    if is_dataclass(kind) and isinstance(kind, type):
        return _dataclass(kind, value, name)
    if hasattr(kind, "model_fields"):  # settings, which were read already
        return value
    origin = get_origin(kind)
    if origin is UnionType:
        return _one_of(get_args(kind), value, name)
    if origin is Literal:
        fits = type(value) is str and value in get_args(kind)
        return value if fits else _refuse(name, f"one of {', '.join(get_args(kind))}", value)
    if origin in (tuple, list):
        return _sequence(kind, value, name)
    if kind is float and type(value) is int:
        value = _as_float(value)
    if type(value) is not kind or (isinstance(value, float) and not math.isfinite(value)):
        _refuse(name, _WORDS[kind], value)
    return value


def _dataclass(kind: type, value: object, name: str) -> Any:
    """A dataclass all of whose fields are given, and no others."""
    if not isinstance(value, Mapping):
        _refuse(name, "an object", value)
    types = get_type_hints(kind)
    wanted = [field.name for field in fields(kind)]
    prefix = f"{name}." if name else ""
    for field in wanted:
        if field not in value:
            raise ConfigError(f"{prefix}{field} is missing")
    if unknown := sorted(set(value) - set(wanted)):
        raise ConfigError(f"{prefix}{_short(unknown[0])} is not a known field")
    return kind(**{field: typed(types[field], value[field], prefix + field) for field in wanted})


def _one_of(kinds: tuple[Any, ...], value: object, name: str) -> Any:
    if value is not None and len(kinds) == 2 and NoneType in kinds:  # its own error says what is wrong
        return typed(kinds[0] if kinds[1] is NoneType else kinds[1], value, name)
    for kind in kinds:
        try:
            return typed(kind, value, name)
        except ConfigError:
            continue
    words = [_WORDS.get(kind, "a list of whole numbers") for kind in kinds]
    return _refuse(name, " or ".join(words), value)


def _sequence(kind: Any, value: object, name: str) -> Any:
    """A list; or a tuple, from a list of the right length."""
    kinds, is_tuple = get_args(kind), get_origin(kind) is tuple
    endless = not is_tuple or kinds[-1] is Ellipsis
    if not isinstance(value, list) or not (endless or len(value) == len(kinds)):
        _refuse(name, "a list" if endless else f"a list of {len(kinds)}", value)
    inner = [kinds[0]] * len(value) if endless else kinds
    values = [
        typed(kind_of_part, part, f"{name}[{index}]")
        for index, (kind_of_part, part) in enumerate(zip(inner, value, strict=True))
    ]
    return tuple(values) if is_tuple else values


def _as_float(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    name, count = max(Counter(name for name, _ in pairs).items(), key=lambda item: item[1], default=("", 0))
    if count > 1:
        raise ValueError(f"{_short(name)} is there {count} times")
    return dict(pairs)


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a number of JSON")


def _refuse(name: str, rule: str, value: object) -> NoReturn:
    raise ConfigError(f"{name or 'the document'} must be {rule}, got {_short(value)}")


def _short(value: object) -> str:
    """A value for an error's line: printable, one line, not long."""
    text = json.dumps(value) if isinstance(value, str | list | dict | float | int) else "null"
    return re.sub(r"\s+", " ", text if len(text) <= 60 else f"{text[:57]}...")
