"""From YAML and overrides to a `Config`, and back.

`load_config` is the one way in: strict, with a refusal in one line of our own
words that names the setting. jsonargparse reads the types off the dataclasses
and stays behind this file. Nothing here imports torch, so a refused config
costs no import.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import yaml
from jsonargparse import ArgumentError, ArgumentParser, set_parsing_settings

from mpfgvc.config import Config, ModelConfig
from mpfgvc.errors import ConfigError, one_line

_REPLACED = {"stage2.flip": "stage2.views"}
"""Settings that older run folders may hold, and what they became."""


def load_config(source: str | Path | None = None, *, overrides: Mapping[str, Any] | None = None) -> Config:
    """The settings of a YAML file, or the defaults, with `overrides` on top.

    `overrides` maps dotted names to values: `{"model.kept_tokens": 96}`.

    Raises ConfigError in one line for a file that cannot be read, an unknown
    name, a value of the wrong type or a broken rule.
    """
    settings = {} if source is None else _read_yaml(Path(source))
    for name, value in (overrides or {}).items():
        _set_dotted(settings, name, value)
    return config_from_dict(settings)


def recipe(name: str) -> Path:
    """The file of a recipe that comes with the package, such as `synthetic`."""
    return Path(__file__).parent / "recipes" / f"{name}.yaml"


def parse_overrides(words: Sequence[str]) -> dict[str, Any]:
    """Settings from `--name value`, `--name=value` and, for true, `--name` alone; values are YAML.

    Raises ConfigError for a word that is no such option.
    """
    overrides: dict[str, Any] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            raise ConfigError(f"settings look like --model.kept_tokens 96, got {word}")
        name, equals, value = word[2:].partition("=")
        if not equals:
            value = rest.pop(0) if rest and not rest[0].startswith("--") else "true"
        try:
            overrides[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            overrides[name] = value
    return overrides


def config_from_dict(settings: Mapping[str, Any]) -> Config:
    """A Config from nested dictionaries; what they leave out has its default. Raises ConfigError."""
    _refuse_unknown(Config, settings, "")
    parser = add_settings(_parser())
    try:
        values = parser.instantiate(parser.parse_object(dict(settings)))
    except (ConfigError, ArgumentError, TypeError, ValueError) as error:
        raise ConfigError(_refusal(error)) from None
    return Config(**{entry.name: values[entry.name] for entry in fields(Config)})


def model_config_from_dict(settings: Mapping[str, Any]) -> ModelConfig:
    """The model's part of a config alone, as a saved model keeps it. Raises ConfigError."""
    return config_from_dict({"model": settings}).model


def add_settings(parser: ArgumentParser) -> ArgumentParser:
    """Add every setting to a jsonargparse parser, with its field's docstring as help."""
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser.add_class_arguments(Config)
    return parser


def config_to_dict(config: Config) -> dict[str, Any]:
    """The nested dictionary that `config_from_dict` turns back into an equal config."""
    return asdict(config)


def dump_config(config: Config) -> str:
    """The whole config as YAML text."""
    return yaml.safe_dump(config_to_dict(config), sort_keys=False, allow_unicode=True)


def _parser() -> ArgumentParser:
    return ArgumentParser(exit_on_error=False)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the config {path}: {error.strerror}; check the path") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"the config {path} is not valid YAML: {one_line(error)}") from None
    if settings is None:
        return {}
    if not isinstance(settings, dict):
        raise ConfigError(f"the config {path} must hold settings such as `seed: 0`, got {settings!r:.40}")
    return settings


def _set_dotted(settings: dict[str, Any], name: str, value: Any) -> None:
    *parents, last = name.split(".")
    for parent in parents:
        child = settings.get(parent)
        settings[parent] = dict(child) if isinstance(child, dict) else {}
        settings = settings[parent]
    settings[last] = value


def _refuse_unknown(kind: type, settings: Mapping[str, Any], prefix: str) -> None:
    """Refuse a name that `kind` does not have, with the nearest one that it has."""
    types = get_type_hints(kind)
    for name, value in settings.items():
        if name not in types:
            raise ConfigError(f"unknown setting {prefix}{name}; {_instead(prefix, str(name), list(types))}")
        if not is_dataclass(types[name]):
            continue
        if not isinstance(value, Mapping):
            raise ConfigError(f"{prefix}{name} must hold settings of its own, got {value!r:.40}")
        _refuse_unknown(types[name], value, f"{prefix}{name}.")


def _instead(prefix: str, name: str, known: list[str]) -> str:
    """What to write in place of an unknown name."""
    if (successor := _REPLACED.get(prefix + name)) is not None:
        return f"it was replaced by {successor}"
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {prefix}{near[0]}?" if near else f"there are: {', '.join(known)}"


def _refusal(error: Exception) -> str:
    """Our one line for what jsonargparse says about a value of the wrong type."""
    text = one_line(error, 10_000)
    match = re.search(r'key "(?P<setting>[\w.]+)".*(?:Got value|Given value): (?P<value>.*)$', text)
    if match is None:
        return text.removeprefix("Parser error: ")
    hint: Any = Config
    for name in match["setting"].split("."):
        hint = get_type_hints(hint)[name]
    return f"{match['setting']} must be {_in_words(hint)}, got {match['value']}"


def _in_words(hint: Any) -> str:
    words = {int: "a whole number", float: "a number", str: "text", bool: "true or false", NoneType: "null"}
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(map(str, get_args(hint)))
    if get_origin(hint) is list:
        return f"a list of {_in_words(get_args(hint)[0]).removeprefix('a ')}s"
    if get_origin(hint) is UnionType:
        return " or ".join(_in_words(kind) for kind in get_args(hint))
    return words.get(hint, "settings of its own")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
