"""The way in to a `Config`, and back: recipes, YAML files, dictionaries, words of the command line.

`load_config` is strict: it refuses in one line that names the setting. `config_values` reads values by
the type of their setting, `config_yaml` the files. Nothing here imports torch, so a refused
config costs no import.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mpfgvc.config import Config
from mpfgvc.config_values import build, from_word, setting_type
from mpfgvc.config_yaml import BASE, read_recipe, read_yaml, write_yaml
from mpfgvc.errors import ConfigError

DEFAULT = "default"
"""As a base: the recipe of a training that names none."""
_RECIPES = Path(__file__).parent / "recipes"
_ABLATIONS = "ablations/"


def load_config(
    source: str | Path | None = None,
    *,
    overrides: Mapping[str, Any] | None = None,
    base: str | Path | None = None,
) -> Config:
    """The settings of a recipe or a YAML file, with `overrides` on top.

    `source` is the name of a recipe, such as `cub` or `frozen` (short for `ablations/frozen`), or the path of
    a file: a Path, or text that has a separator or ends in .yaml or .yml. So `cub` is always the recipe, even
    beside a file of that name, which is `./cub`. None = the defaults, which are those of the recipe `folder`.

    A file may state only how it differs from another: `base: cub`, or `base: default` for the recipe that a
    training without one has. `base` takes the place of the recipe that it is based on in the end.

    `overrides` maps dotted names to Python values: `{"model.kept_tokens": 96}`. A dictionary sets
    several settings of a group and leaves the others; a Path counts as text.

    Raises ConfigError in one line for a file that cannot be read, an unknown name, a value of the
    wrong type or a broken rule.
    """
    overrides = overrides or {}
    return _config_of([*_layers(source, base, overrides), overrides])


def load_ablation(
    source: str | Path, *, settings: Mapping[str, Any], base: str | Path | None = None
) -> Config:
    """As `load_config`, but with `settings` below what the recipe itself says differs from its base.

    So the same settings change all recipes of a comparison alike, and an ablation stays what it is: with
    `model.kept_tokens: 32`, `ablations/without-selection` still keeps all patches.
    """
    first, *differences = _layers(source, base, settings)
    return _config_of([first, settings, *differences])


def recipe_names() -> list[str]:
    """The whole recipes that come with the package."""
    return sorted(file.stem for file in _RECIPES.glob("*.yaml"))


def ablation_names() -> list[str]:
    """The recipes of the package that say only how they differ from another: `ablations/probe` and others."""
    return sorted(f"{_ABLATIONS}{file.stem}" for file in (_RECIPES / _ABLATIONS).glob("*.yaml"))


def recipe(name: str) -> Path:
    """The file of a recipe that comes with the package; `frozen` is short for `ablations/frozen`.

    Raises ConfigError with the list if there is none.
    """
    ablations = ablation_names()
    for found in (name, _ABLATIONS + name):
        if found in (*recipe_names(), *ablations):
            return _RECIPES / f"{found}.yaml"
    names = ablations if name.startswith(_ABLATIONS) else recipe_names()
    short = [] if name.startswith(_ABLATIONS) else [each.removeprefix(_ABLATIONS) for each in ablations]
    near = difflib.get_close_matches(name, [*names, *short], n=1)
    instead = f"did you mean {near[0]}?" if near else f"a file needs a path, such as ./{name}"
    raise ConfigError(f"unknown recipe {name}; there are {', '.join(names)}; {instead}")


def default_recipe(overrides: Mapping[str, Any]) -> str:
    """The recipe of a training that names none.

    `folder` if the settings on top name a dataset, its folder or its manifest; else `synthetic`, which
    needs no data.
    """
    named = "data.root" in overrides or "data.manifest" in overrides
    return "folder" if named or overrides.get("data.dataset", "synthetic") != "synthetic" else "synthetic"


def parse_overrides(words: Sequence[str]) -> dict[str, Any]:
    """Settings from `--name value`, `--name=value` and, for true, `--name`.

    The type of the setting decides how its value is read: a text takes the word as it was typed.
    Raises ConfigError for a word that is not such an option and for a value of the wrong type.
    """
    overrides: dict[str, Any] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            raise ConfigError(f"settings look like --model.kept_tokens 96, got {word}")
        name, equals, value = word[2:].partition("=")
        if not equals:
            value = _next_value(name, rest)
        overrides[name] = from_word(name, value)
    return overrides


def config_from_dict(settings: Mapping[str, Any]) -> Config:
    """A Config from nested dictionaries; what they leave out has its default. Raises ConfigError."""
    return build(Config, settings)


def config_to_dict(config: Config) -> dict[str, Any]:
    """The nested dictionary that `config_from_dict` turns back into an equal config."""
    return asdict(config)


def changed_settings(before: Config, after: Config) -> dict[str, tuple[object, object]]:
    """The settings in which two configs differ, by dotted name, with the value before and after."""
    old, new = (_flat(config_to_dict(config), "") for config in (before, after))
    return {name: (old[name], value) for name, value in new.items() if value != old[name]}


def missing_settings(source: Path) -> list[str]:
    """The settings that a YAML file leaves out, by dotted name. Raises ConfigError if it is not a config."""
    return list(_missing(config_to_dict(Config()), read_yaml(source), ""))


def dump_config(config: Config) -> str:
    """The whole config as YAML text, which `load_config` reads back, whatever its texts hold."""
    return write_yaml(config_to_dict(config))


def _layers(
    source: str | Path | None, base: str | Path | None, overrides: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """What each file states, from the one that names no base to `source`. Raises ConfigError."""
    if source is None:
        return [{}]
    files = [_file(source)]
    recipes = [read_recipe(files[0])]
    while (name := recipes[-1].base) is not None:
        try:
            file = _file(default_recipe(overrides) if name == DEFAULT else name, files[-1].parent)
            if file in files:
                raise ConfigError(f"{name} is based on this file; a base must not lead back to it")
            recipes.append(read_recipe(file))
        except ConfigError as error:
            raise ConfigError(f"{recipes[-1].where}: {BASE}: {error}") from None
        files.append(file)
    layers = [each.settings for each in reversed(recipes)]
    if base is None:
        return layers
    if len(layers) == 1:
        hint = f"begin it with {BASE}: {DEFAULT}, or leave out --base"
        raise ConfigError(f"{source} states all its settings and has no base to replace by {base}; {hint}")
    return [*_layers(base, None, overrides), *layers[1:]]


def _config_of(layers: Sequence[Mapping[str, Any]]) -> Config:
    """A Config from layers of settings; a later one goes on top of those before."""
    settings: dict[str, Any] = {}
    for layer in layers:
        for name, value in layer.items():
            _set_dotted(settings, name, value)
    return config_from_dict(settings)


def _file(source: str | Path, beside: Path = Path()) -> Path:
    """The file of a recipe or path; `beside` is the folder that a path starts from."""
    if isinstance(source, Path):
        return beside / source
    separators = [mark for mark in ("/", os.sep, os.altsep) if mark]
    is_yaml = source.endswith((".yaml", ".yml"))
    is_path = is_yaml or any(mark in source.removeprefix(_ABLATIONS) for mark in separators)
    return beside / source if is_path else recipe(source)


def _next_value(name: str, rest: list[str]) -> str:
    """Take the value of an option from the words after it; an option without one means true."""
    if rest and not rest[0].startswith("--"):
        return rest.pop(0)
    if setting_type(name) is bool:
        return "true"
    hint = f"a value that begins with -- is written --{name}=--value"
    raise ConfigError(f"--{name} needs a value; {hint}")


def _missing(all_settings: Mapping[str, Any], settings: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for name, value in all_settings.items():
        is_group = isinstance(value, Mapping)
        if name not in settings or (is_group and not isinstance(settings[name], Mapping)):
            yield prefix + name
        elif is_group:
            yield from _missing(value, settings[name], f"{prefix}{name}.")


def _flat(settings: Mapping[str, Any], prefix: str) -> dict[str, object]:
    """Nested settings by dotted name."""
    found: dict[str, object] = {}
    for name, value in settings.items():
        found |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return found


def _set_dotted(settings: dict[str, Any], name: str, value: Any) -> None:
    """Set one setting; a dictionary sets those that it names."""
    if isinstance(value, Mapping):
        for inner, each in value.items():
            _set_dotted(settings, f"{name}.{inner}", each)
        return
    *parents, last = name.split(".")
    for parent in parents:
        child = settings.get(parent)
        settings[parent] = dict(child) if isinstance(child, dict) else {}
        settings = settings[parent]
    settings[last] = value
