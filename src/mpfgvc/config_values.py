"""The type of a setting decides how its value is read.

A text setting takes the word exactly as it was typed: `birds #2`, `2011`, `on` and `a: b` are
names, and never YAML. The word `null` unsets a setting that is set by default and may be unset,
such as `model.text_tower.pretrained`; elsewhere it is a name, too. Numbers, true and false follow
YAML 1.2: no `yes`, no `0123`, no NaN. A value from Python must have the right type; a Path counts as text.
"""

from __future__ import annotations

import difflib
import math
import numbers
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import cache, reduce
from types import NoneType, UnionType
from typing import Any, Literal, TypeAlias, TypeVar, Union, get_args, get_origin, get_type_hints

from mpfgvc.config import Config
from mpfgvc.errors import ConfigError

_REPLACED = {"stage2.flip": "stage2.views"}
"""Settings that older run folders may hold, and what they became."""
_WHOLE = re.compile(r"[-+]?(0|[1-9][0-9]{0,18})")
_UNIONS = (UnionType, Union)
"""`float | None` is the one, `float | Literal[...]` the other."""
_NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
Kind: TypeAlias = Any
"""The type of a setting: the annotation of its field, such as `int | None`, which is not a class."""
Settings = TypeVar("Settings")


def setting_type(name: str) -> Kind:
    """The type of the setting of a dotted name; a dataclass for a group. Raises ConfigError if unknown."""
    kind: Kind = Config
    prefix = ""
    for part in name.split("."):
        if not is_group(kind):
            raise ConfigError(f"unknown setting {name}; {prefix.rstrip('.')} holds no settings of its own")
        kind = types_of(kind, prefix, part)
        prefix += f"{part}."
    return kind


def _is_name_by_default_unset(setting: str, kind: Kind) -> bool:
    """Whether it is a text that nobody needs to unset, so that its word `null` is a name like any other."""
    default: object = reduce(getattr, setting.split("."), Config())
    return is_text(kind) and default is None


def types_of(kind: Kind, prefix: str, name: str) -> Kind:
    """The type of one setting of a group. Raises ConfigError with the nearest name if there is none."""
    types = _types(kind)
    if name not in types:
        raise ConfigError(f"unknown setting {prefix}{name}; {_instead(prefix, str(name), list(types))}")
    return types[name]


def from_word(setting: str, word: str) -> object:
    """The value that a word of the command line gives to a setting. Raises ConfigError."""
    kind = setting_type(setting)
    if is_group(kind):
        inner = next(iter(_types(kind)))
        raise ConfigError(f"{setting} is a group of settings; set one of them, such as --{setting}.{inner}")
    if word == "null" and NoneType in _alternatives(kind) and not _is_name_by_default_unset(setting, kind):
        return None
    if is_text(kind):
        return checked(setting, kind, word)
    if word.startswith("[") and word.endswith("]"):
        return checked(setting, kind, [scalar(part.strip()) for part in word[1:-1].split(",")])
    return checked(setting, kind, scalar(word))


def scalar(word: str) -> object:
    """A number, true or false as YAML 1.2 reads them; any other word stays text, and `checked` refuses it."""
    if word in _WORDS:
        return _WORDS[word]
    if _WHOLE.fullmatch(word):
        return int(word)
    zeros = re.match(r"[-+]?0[0-9]", word)  # YAML 1.1 reads these as octal
    return float(word) if _NUMBER.fullmatch(word) and not zeros else word


def build(kind: type[Settings], settings: Mapping[str, Any], prefix: str = "") -> Settings:
    """A settings dataclass from nested values; what they leave out has its default. Raises ConfigError."""
    values: dict[str, Any] = {}
    for name, value in settings.items():
        inner = types_of(kind, prefix, name)
        if not is_group(inner):
            values[name] = checked(f"{prefix}{name}", inner, value)
        elif isinstance(value, Mapping):
            values[name] = build(inner, value, f"{prefix}{name}.")
        else:
            raise ConfigError(f"{prefix}{name} must hold settings of its own, got {shown(value)}")
    return kind(**values)


def checked(setting: str, kind: Kind, value: object) -> object:
    """A value of the setting's type, numbers and paths converted. Raises ConfigError for any other type."""
    for alternative in _alternatives(kind):
        try:
            return _convert(alternative, value)
        except TypeError:
            continue
    rule = f"must be {in_words(kind)}"
    if isinstance(value, str) and is_text(kind) and not _is_choice(kind):
        rule = "must not be empty or contain a NUL character; leave it out instead"
    raise ConfigError(f"{setting} {rule}, got {shown(value)}")


def is_group(kind: Kind) -> bool:
    """Whether a setting of this type holds settings of its own."""
    return is_dataclass(kind)


def is_text(kind: Kind) -> bool:
    """Whether a setting of this type takes a word as it is typed; one that may be a number does not."""
    kinds = _alternatives(kind)
    return any(each is str or _origin(each) is Literal for each in kinds) and not {int, float} & set(kinds)


def _convert(kind: Kind, value: object) -> object:
    """`value` as `kind`. Raises TypeError if it is of another."""
    if _origin(kind) is Literal:
        return _choice(get_args(kind), value)
    if _origin(kind) is list:
        if not isinstance(value, list | tuple):
            raise TypeError
        return [_convert(get_args(kind)[0], each) for each in value]
    return _CONVERTERS[kind](value)


def _text(value: object) -> str:
    text = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(text, str) or not text or "\0" in text:
        raise TypeError
    return text


def _choice(choices: tuple[object, ...], value: object) -> object:
    if not isinstance(value, str) or value not in choices:
        raise TypeError
    return value


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError
    return int(value)


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError
    try:
        number = float(value)
    except OverflowError:
        raise TypeError from None
    if not math.isfinite(number):
        raise TypeError
    return number


def _truth(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _null(value: object) -> None:
    if value is not None:
        raise TypeError


_CONVERTERS: dict[Kind, Callable[[object], object]] = {
    str: _text,
    int: _whole,
    float: _number,
    bool: _truth,
    NoneType: _null,
}


@cache
def _types(kind: Kind) -> dict[str, Kind]:
    """The settings of a dataclass with their types."""
    hints = get_type_hints(kind)
    return {entry.name: hints[entry.name] for entry in fields(kind)}


def _origin(kind: Kind) -> Any:
    """What a generic type is made of: list, Literal or UnionType; None for a class."""
    return get_origin(kind)


def _alternatives(kind: Kind) -> tuple[Kind, ...]:
    return get_args(kind) if _origin(kind) in _UNIONS else (kind,)


def _is_choice(kind: Kind) -> bool:
    return any(_origin(each) is Literal for each in _alternatives(kind))


def _instead(prefix: str, name: str, known: list[str]) -> str:
    """What to write in place of an unknown name."""
    if (successor := _REPLACED.get(prefix + name)) is not None:
        return f"it was replaced by {successor}"
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {prefix}{near[0]}?" if near else f"there are: {', '.join(known)}"


def in_words(kind: Kind) -> str:
    """What a setting of this type must be, such as `a whole number or null`."""
    words = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    if _origin(kind) is Literal:
        choices = ", ".join(map(str, get_args(kind)))
        return f"one of {choices}" if len(get_args(kind)) > 1 else choices
    if _origin(kind) is list:
        return f"a list of {in_words(get_args(kind)[0]).removeprefix('a ')}s"
    if _origin(kind) in _UNIONS:
        return " or ".join(in_words(each) for each in get_args(kind))
    return words.get(kind, "null")


def shown(value: object) -> str:
    """A value as a message shows it: on one line, at most 60 characters."""
    return "null" if value is None else " ".join(str(value).split())[:60] or "nothing"
