"""The way in to a `Config`, and back: recipes, YAML files, dictionaries, words of the command line.

The type of a setting decides how its value is read: a text takes the letters as they are typed, so
`root: 2011`, `on` and `0123` are folder names. Numbers, true and false follow YAML 1.2: no `yes`, no `0123`,
no NaN. `null`, `~` and an empty value of a file mean null, the quoted `"null"` is a word; on the command line
the word `null` unsets what is set by default. `config.Config` checks the values, once. No torch.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from mpfgvc.config import SETTINGS, Config, in_words, is_text
from mpfgvc.errors import ConfigError, MpfgvcError, one_line

BASE = "base"
"""The line of a recipe that names another one, whose settings it changes."""
DEFAULT = "default"
"""As a base: the recipe of a training that names none."""
_RECIPES = Path(__file__).parent / "recipes"
_ABLATIONS = "ablations/"
_TAG = "tag:yaml.org,2002:"
_PLAIN_TAGS = {f"{_TAG}{name}" for name in ("null", "bool", "int", "float", "str", "timestamp", "value")}
_WHOLE = re.compile(r"[-+]?(0|[1-9][0-9]{0,18})")
_NUMBER = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_HARMLESS = re.compile(r"[A-Za-z_./][A-Za-z0-9_./-]*")
"""Texts that need no quotes in YAML, unless it has a meaning for them."""


class Given(NamedTuple):
    """The value that a source gives to a setting, and the file and line, if it is one."""

    value: object
    where: str = ""


Layer = dict[str, Given]
"""What one source states, by dotted name."""


def load_config(
    source: str | Path | None = None,
    *,
    overrides: Mapping[str, Any] | None = None,
    base: str | Path | None = None,
    below: Mapping[str, Any] | None = None,
) -> Config:
    """The settings of a recipe or a YAML file, with `overrides` on top.

    `source` is the name of a recipe, such as `cub` or `frozen` (short for `ablations/frozen`), or the path of
    a file: a Path, or text that has a separator or ends in .yaml or .yml. So `cub` is always the recipe, even
    beside a file of that name, which is `./cub`. None = the defaults, which are those of the recipe `folder`.

    A file states only how it differs from the defaults, or from another: `base: cub`, or `base: default` for
    the recipe that a training without one has. `base` takes the place of the recipe that it is based on in
    the end.

    `overrides` maps dotted names to Python values: `{"model.kept_tokens": 96}`. A dictionary sets
    several settings of a group and leaves the others; a Path counts as text. Settings of `below` give way to
    what the file says differs from its base: so an ablation stays what it is when several are compared.

    Raises ConfigError in one line for a file that cannot be read, an unknown name, a value of the
    wrong type or a broken rule.
    """
    overrides, below = overrides or {}, below or {}
    first, *differences = _layers(source, base, {**below, **overrides})
    return _config_of([first, _given(below), *differences, _given(overrides)])


def recipe_names() -> list[str]:
    """The whole recipes that come with the package."""
    return sorted(file.stem for file in _RECIPES.glob("*.yaml"))


def ablation_names() -> list[str]:
    """The recipes of the package that leave a part out or exchange it: `ablations/probe` and others."""
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
    short = [] if name.startswith(_ABLATIONS) else [found.removeprefix(_ABLATIONS) for found in ablations]
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
    """Settings from `--name value`, `--name=value` and, for true, `--name`; `load_config` checks them.

    Raises ConfigError for a word that is not such an option.
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
        overrides[name] = _from_word(name, value)
    return overrides


def changed_settings(before: Config, after: Config) -> dict[str, tuple[object, object]]:
    """The settings in which two configs differ, by dotted name, with the value before and after."""
    old, new = _given(before.model_dump()), _given(after.model_dump())
    return {name: (old[name].value, new[name].value) for name in new if new[name] != old[name]}


def dump_config(config: Config) -> str:
    """The whole config as YAML text, which `load_config` reads back, whatever its texts hold.

    It ends with the line `...`, so that a cut one is known.
    """
    settings = config.model_dump()
    return yaml.dump(settings, Dumper=_Dumper, explicit_end=True, sort_keys=False, allow_unicode=True, width=10_000)


def yaml_root(text: str, name: str, refusal: type[MpfgvcError]) -> Node | None:
    """The nodes of a YAML text; None for an empty one. Raises `refusal` that begins with `name`."""
    try:
        root: Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, ValueError) as error:
        raise refusal(f"{name} is not valid YAML: {one_line(error)}") from None
    except RecursionError:
        raise refusal(f"{name} is not valid YAML: it is nested too deeply") from None
    return root


def _layers(source: str | Path | None, base: str | Path | None, overrides: Mapping[str, Any]) -> list[Layer]:
    """What each file states, from the one that names no base to `source`. Raises ConfigError."""
    if source is None:
        return [{}]
    files, layers = [_file(source)], [_read(_file(source))]
    while (named := layers[-1].pop(BASE, None)) is not None:
        name = str(named.value)
        try:
            file = _file(default_recipe(overrides) if name == DEFAULT else name, files[-1].parent)
            if file in files:
                raise ConfigError(f"{name} is based on this file; a base must not lead back to it")
            layers.append(_read(file))
        except ConfigError as error:
            raise ConfigError(f"{named.where}: {BASE}: {error}") from None
        files.append(file)
    layers.reverse()
    if base is None:
        return layers
    if len(layers) == 1:
        hint = f"begin it with {BASE}: {DEFAULT}, or leave out --base"
        raise ConfigError(f"{source} names no base to replace by {base}; {hint}")
    return [*_layers(base, None, overrides), *layers[1:]]


def _config_of(layers: Sequence[Layer]) -> Config:
    """A Config from layers of settings; a later one goes on top of those before."""
    given = {name: value for layer in layers for name, value in layer.items()}
    settings: dict[str, Any] = {}
    for name, (value, _) in given.items():
        *groups, last = name.split(".")
        inner: Any = settings
        for group in groups:
            inner = inner.setdefault(group, {}) if isinstance(inner, dict) else None
        if isinstance(inner, dict):  # else a group is set to a value, and refused for it
            inner[last] = value
    try:
        return Config(**settings)
    except ConfigError as error:
        where = given[error.setting].where if error.setting in given else ""
        raise ConfigError(f"{where}: {error}") if where else error from None


def _given(settings: Mapping[str, Any], prefix: str = "") -> Layer:
    """Nested settings by dotted name."""
    found: Layer = {}
    for name, value in settings.items():
        is_group = isinstance(value, Mapping)
        found |= _given(value, f"{prefix}{name}.") if is_group else {prefix + name: Given(value)}
    return found


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
    if name not in SETTINGS or SETTINGS[name].annotation is bool:  # an unknown one is refused by its name
        return "true"
    hint = f"a value that begins with -- is written --{name}=--value"
    raise ConfigError(f"--{name} needs a value; {hint}")


def _from_word(setting: str, word: str) -> object:
    """The value that a word of the command line gives to a setting."""
    text = is_text(setting)
    if word == "null" and (field := SETTINGS.get(setting)) is not None:
        may_be_unset = "null" in in_words(field.annotation)
        if may_be_unset and not (text and field.default is None):
            return None
    if text:
        return word
    if word.startswith("[") and word.endswith("]"):
        return [_scalar(part.strip()) for part in word[1:-1].split(",")]
    return _scalar(word)


def _scalar(word: str) -> object:
    """A number, true or false as YAML 1.2 reads them; any other word stays text."""
    if word in ("true", "True", "TRUE", "false", "False", "FALSE"):
        return word[0] in "tT"
    if _WHOLE.fullmatch(word):
        return int(word)
    return float(word) if _NUMBER.fullmatch(word) else word


def _read(path: Path) -> Layer:
    """What a file states, with its `base` as one more text. Raises ConfigError with path and line."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(f"cannot read the config {path}: {error.strerror}; check the path") from None
    except ValueError as error:
        raise ConfigError(f"the config {path} is not valid YAML: {one_line(error)}") from None
    root = yaml_root(text, f"the config {path}", ConfigError)
    if root is None or _is_null(root):
        return {}
    if not isinstance(root, MappingNode):
        value = root.value if isinstance(root, ScalarNode) else "a list"
        raise ConfigError(f"the config {path} must hold settings such as `seed: 0`, got {value:.40}")
    layer: Layer = {}
    _read_group(root, "", path, layer)
    if BASE in layer and (not isinstance(layer[BASE].value, str) or not layer[BASE].value):
        rule = f"{BASE} must name a recipe, such as cub, or a file, such as ./mine.yaml"
        raise ConfigError(f"{layer[BASE].where}: {rule}")
    return layer


def _read_group(node: MappingNode, prefix: str, path: Path, layer: Layer) -> None:
    """Put the settings of a group into `layer`. Raises ConfigError."""
    seen: set[str] = set()
    for key, value in node.value:
        where = f"{path}, line {key.start_mark.line + 1}"
        if not isinstance(key, ScalarNode):
            raise ConfigError(f"{where}: a setting must be a word")
        name = f"{prefix}{key.value}"
        if name in seen:
            raise ConfigError(f"{where}: {name} is given twice; keep one of the two")
        seen.add(name)
        is_group = any(known.startswith(f"{name}.") for known in SETTINGS)
        if is_group and isinstance(value, MappingNode):
            _read_group(value, f"{name}.", path, layer)
        elif is_group:
            got = "nothing" if _is_null(value) else value.value if isinstance(value, ScalarNode) else "a list"
            raise ConfigError(f"{where}: {name} must hold settings of its own, got {got:.60}")
        else:
            try:
                layer[name] = Given(_plain(value, is_text(name)), where)
            except TypeError:
                raise ConfigError(f"{where}: {name} must be a plain value or a list of them") from None


def _plain(node: Node, text: bool) -> object:
    """The Python value of a node. Raises TypeError for nested lists, groups and tags of other languages."""
    if isinstance(node, SequenceNode) and all(isinstance(item, ScalarNode) for item in node.value):
        return [_plain(item, text) for item in node.value]
    if not isinstance(node, ScalarNode) or node.tag not in _PLAIN_TAGS:
        raise TypeError
    if _is_null(node):
        return None
    quoted = node.style is not None
    return str(node.value) if quoted or text else _scalar(node.value)


def _is_null(node: Node) -> bool:
    return isinstance(node, ScalarNode) and node.tag == f"{_TAG}null"


class _Dumper(yaml.SafeDumper):
    """Writes every text that is not a plain word in double quotes, the only form that loses nothing."""


def _represent_text(dumper: _Dumper, text: str) -> ScalarNode:
    style = None if _HARMLESS.fullmatch(text) else '"'
    return dumper.represent_scalar(f"{_TAG}str", text, style=style)


_Dumper.add_representer(str, _represent_text)
