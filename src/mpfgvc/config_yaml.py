"""A config as YAML: read by the types of its settings, and written so that every text comes back.

The type of a setting decides in files, too: `root: 2011`, `root: on` and `root: 0123` are folder names.
`null`, `~` and an empty value mean null; the quoted `"null"` is a word. Anchors, aliases and `<<` work as
usual. A recipe may name another one that it changes: `base: cub`. A key that is given twice is refused
with its line, and so is anything else that cannot be read as it is meant.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import SafeConstructor
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from mpfgvc.config import Config
from mpfgvc.config_values import Kind, checked, is_group, is_text, scalar, shown, types_of
from mpfgvc.errors import ConfigError, one_line

_TAG = "tag:yaml.org,2002:"
_PLAIN_TAGS = {f"{_TAG}{name}" for name in ("null", "bool", "int", "float", "str", "timestamp", "value")}
_MOST_BYTES = 2**20
_HARMLESS = re.compile(r"[A-Za-z_./][A-Za-z0-9_./-]*")
"""Texts that need no quotes, unless YAML has a meaning for them."""


BASE = "base"
"""The line of a recipe that names another one, whose settings it changes."""


@dataclass(frozen=True)
class RecipeFile:
    """The settings that a file states, as nested dictionaries, and the recipe that it changes, if any."""

    settings: dict[str, Any]
    base: str | None = None
    where: str = ""
    """The file and the line of its base, for an error message."""


def read_recipe(path: Path) -> RecipeFile:
    """A file of settings that may begin with `base: RECIPE`. Raises ConfigError with path and line."""
    root = _compose(path)
    if root is None:
        return RecipeFile({})
    reader = _Reader(path)
    bases = [(key, value) for key, value in root.value if key.value == BASE]
    root.value = [(key, value) for key, value in root.value if key.value != BASE]
    if not bases:
        return RecipeFile(reader.settings(Config, root, ""))
    name, line = reader.base(bases)
    return RecipeFile(reader.settings(Config, root, ""), name, f"{path}, line {line}")


def read_yaml(path: Path) -> dict[str, Any]:
    """The settings of a file, as nested dictionaries. Raises ConfigError with path and line."""
    root = _compose(path)
    return {} if root is None else _Reader(path).settings(Config, root, "")


def _compose(path: Path) -> MappingNode | None:
    """The settings of a file as YAML nodes; None for an empty file. Raises ConfigError."""
    try:
        root = yaml.compose(_text(path), Loader=yaml.SafeLoader)
    except OSError as error:
        raise ConfigError(f"cannot read the config {path}: {error.strerror}; check the path") from None
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        raise ConfigError(f"the config {path} is not valid YAML: {one_line(error)}") from None
    except RecursionError:
        raise ConfigError(f"the config {path} is not valid YAML: it is nested too deeply") from None
    if root is None or _is_null(root):
        return None
    if not isinstance(root, MappingNode):
        value = root.value if isinstance(root, ScalarNode) else "a list"
        raise ConfigError(f"the config {path} must hold settings such as `seed: 0`, got {value:.40}")
    return root


def write_yaml(settings: Mapping[str, Any]) -> str:
    """Nested settings as YAML text, which `read_yaml` turns back into equal ones."""
    return yaml.dump(dict(settings), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000)


def _text(path: Path) -> str:
    """The whole text of a file; a pipe will do, as in `--config <(...)`. Raises ValueError for a huge one."""
    with path.open("rb") as file:
        content = file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise ValueError(f"it is larger than {_MOST_BYTES // 2**20} MiB")
    return content.decode("utf-8-sig")


class _Reader:
    """Turns the nodes of one file into settings; refusals name its path and the line."""

    def __init__(self, path: Path):
        self.path = path

    def base(self, lines: list[tuple[Node, Node]]) -> tuple[str, int]:
        """What the one line `base` of a file names, and the number of that line."""
        (key, node), *others = lines
        if others:
            raise self._error(others[0][0], f"{BASE} is given twice; keep one of the two")
        if not isinstance(node, ScalarNode) or not node.value or _is_null(node):
            raise self._error(key, f"{BASE} must name a recipe, such as cub, or a file, such as ./mine.yaml")
        return str(node.value), key.start_mark.line + 1

    def settings(self, kind: Kind, node: MappingNode, prefix: str) -> dict[str, Any]:
        """The settings of a group."""
        self._refuse_twice(node, prefix)
        try:
            SafeConstructor().flatten_mapping(node)  # applies <<
        except (yaml.YAMLError, RecursionError) as error:
            raise self._error(node, f"<< cannot be applied: {one_line(error)}") from None
        return {key.value: self._value(kind, prefix, key, value) for key, value in node.value}

    def _value(self, kind: Kind, prefix: str, key: Node, node: Node) -> object:
        name = prefix + str(key.value)
        try:
            inner = types_of(kind, prefix, str(key.value))
            if is_group(inner):
                if not isinstance(node, MappingNode):
                    raise ConfigError(f"{name} must hold settings of its own, got {_as_text(node)}")
                return self.settings(inner, node, f"{name}.")
            return checked(name, inner, _plain(name, inner, node))
        except _LineError:
            raise
        except ConfigError as error:
            raise self._error(key, str(error)) from None

    def _refuse_twice(self, node: MappingNode, prefix: str) -> None:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, ScalarNode):
                raise self._error(key, "a setting must be a word")
            if key.value in seen:
                raise self._error(key, f"{prefix}{key.value} is given twice; keep one of the two")
            seen.add(key.value)

    def _error(self, node: Node, line: str) -> _LineError:
        return _LineError(f"{self.path}, line {node.start_mark.line + 1}: {line}")


class _LineError(ConfigError):
    """A refusal that names its file and line already."""


def _plain(name: str, kind: Kind, node: Node) -> object:
    """The Python value of a node for a setting of type `kind`."""
    if isinstance(node, SequenceNode):
        if not all(isinstance(each, ScalarNode) for each in node.value):
            raise ConfigError(f"{name} must be a plain value, got a list of lists or settings")
        return [_plain(name, kind, each) for each in node.value]
    if not isinstance(node, ScalarNode) or node.tag not in _PLAIN_TAGS:
        raise ConfigError(f"{name} must be a plain value, got {_as_text(node)}")
    if _is_null(node):
        return None
    quoted = node.style is not None
    return str(node.value) if quoted or is_text(kind) else scalar(node.value)


def _is_null(node: Node) -> bool:
    return node.tag == f"{_TAG}null" and isinstance(node, ScalarNode)


def _as_text(node: Node) -> str:
    if not isinstance(node, ScalarNode):
        return "a list" if isinstance(node, SequenceNode) else "settings of its own"
    return shown(node.value if node.tag in _PLAIN_TAGS else f"{node.tag} {node.value}")


class _Dumper(yaml.SafeDumper):
    """Writes every text that is not a plain word in double quotes, the only form that loses nothing."""


def _represent_text(dumper: _Dumper, text: str) -> ScalarNode:
    style = None if _HARMLESS.fullmatch(text) else '"'
    return dumper.represent_scalar(f"{_TAG}str", text, style=style)


_Dumper.add_representer(str, _represent_text)
