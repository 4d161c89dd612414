"""The list of all settings for `mpfgvc train --help`: type, default and the field's docstring."""

import ast
import inspect
import textwrap
from dataclasses import fields, is_dataclass
from itertools import pairwise
from typing import Any

from mpfgvc import config
from mpfgvc.config_values import in_words, setting_type

_NOTE = """
Every setting is an option. Text is taken exactly as it is typed. The word null unsets a number, and
a text that is set by default. A value that begins with -- is written --name=--value.
"""
_WIDTH = 100


def settings_help() -> str:
    """Every setting, group by group, as text."""
    return _NOTE + "".join(_group_lines(config.Config(), ""))


def _group_lines(group: Any, prefix: str) -> list[str]:
    """A heading, the settings of the group, then the groups inside it."""
    docs = _field_docs(type(group))
    lines, inner = [f"\n{inspect.getdoc(type(group))}\n"], []
    for entry in fields(group):
        name, value = prefix + entry.name, getattr(group, entry.name)
        if is_dataclass(value):
            inner += _group_lines(value, f"{name}.")
            continue
        lines.append(f"  --{name}   {in_words(setting_type(name))}; default: {_shown(value)}\n")
        indent = " " * 8
        text = " ".join(docs[entry.name].split())
        lines.append(textwrap.fill(text, _WIDTH, initial_indent=indent, subsequent_indent=indent) + "\n")
    return lines + inner


def _field_docs(kind: type) -> dict[str, str]:
    """The docstring below each field of a settings dataclass, those of its base classes included."""
    docs: dict[str, str] = {}
    for each in reversed([base for base in kind.__mro__ if is_dataclass(base)]):
        body: list[ast.stmt] = getattr(ast.parse(inspect.getsource(each)).body[0], "body", [])
        for field, text in pairwise(body):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                docs[field.target.id] = ast.literal_eval(text.value) if isinstance(text, ast.Expr) else ""
    return docs


def _shown(value: object) -> str:
    words = {None: "null", True: "true", False: "false"}
    return words[value] if value is None or isinstance(value, bool) else str(value)
