"""The settings in `mpfgvc train --help` and `--help-all`: type, default and the field's docstring."""

import inspect
import textwrap

from mpfgvc.config import SETTINGS, Config, Settings, in_words, is_advanced, shown

_NOTE = """
Every setting is an option. Text is taken exactly as it is typed. The word null unsets a number, and
a text that is set by default. A value that begins with -- is written --name=--value.
"""
_REST = "\n{} more settings, which few need, are in mpfgvc train --help-all.\n"
_WIDTH = 100


def settings_help(*, all_of_them: bool = False) -> str:
    """The settings, group by group, as text; the advanced ones only with `all_of_them`."""
    listed = {name for name, field in SETTINGS.items() if all_of_them or not is_advanced(field)}
    left_out = len(SETTINGS) - len(listed)
    return _NOTE + "".join(_group_lines(Config(), listed)) + (_REST.format(left_out) if left_out else "")


def _group_lines(group: Settings, listed: set[str]) -> list[str]:
    """A heading, the settings of the group, then the groups inside it."""
    lines, inner = [], list[str]()
    indent = " " * 8
    for name, value in group:
        setting = group.prefix + name
        if isinstance(value, Settings):
            inner += _group_lines(value, listed)
        elif setting in listed:
            field = SETTINGS[setting]
            lines.append(f"  --{setting}   {in_words(field.annotation)}; default: {shown(value)}\n")
            text = " ".join((field.description or "").split())
            lines.append(textwrap.fill(text, _WIDTH, initial_indent=indent, subsequent_indent=indent) + "\n")
    heading = [f"\n{inspect.getdoc(type(group))}\n"] if lines else []
    return heading + lines + inner
