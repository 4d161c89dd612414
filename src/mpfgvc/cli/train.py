"""`mpfgvc train`: train both stages into a new run folder, or continue a run.

Every setting of `config.py` is an option with its dotted name; words that are none of the options
below are read as settings. A resumed run keeps its settings, except for where its data are, the device and
the sharding.
"""

from __future__ import annotations

import inspect
import textwrap
from argparse import Action, ArgumentParser, Namespace
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mpfgvc.cli import output
from mpfgvc.cli.command import Command, add_config, add_json
from mpfgvc.config import SETTINGS, Config, Settings, in_words, is_advanced, shown
from mpfgvc.errors import ConfigError
from mpfgvc.progress import say
from mpfgvc.recipes_io import default_recipe, load_config, parse_overrides
from mpfgvc.run_folder import RESUMABLE

if TYPE_CHECKING:
    from mpfgvc.training.run import Run


_NOTE = """
Every setting is an option. Text is taken exactly as it is typed. The word null unsets a number, and
a text that is set by default. A value that begins with -- is written --name=--value.
"""
_REST = "\n{} more settings, which few need, are in mpfgvc train --help-all.\n"


class _HelpAll(Action):
    """`--help-all`: the help with every setting."""

    def __call__(self, parser: ArgumentParser, *_: object) -> None:
        """Print it and exit."""
        output.write(parser.format_help() + settings_help(all_of_them=True))
        parser.exit()


def _add_options(parser: ArgumentParser) -> None:
    parser.add_argument("--help-all", nargs=0, action=_HelpAll, help="show this help with all settings and exit")
    add_json(parser)
    add_config(parser)
    parser.add_argument(
        "--base",
        metavar="RECIPE",
        help="what the recipe of --config changes, if it is one of differences, such as ablations/probe "
        "(default: what its line `base` names)",
    )
    parser.add_argument("--out", metavar="FOLDER", help="new run folder (default: runs/<dataset>-<number>)")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="train nothing, but say what this training will take: time, memory and disk, measured here in "
        "three steps of each stage",
    )
    parser.add_argument(
        "--auto-resume",
        action="store_true",
        help="go on with the run that --out holds, if there is one with the same settings: the same command "
        "starts a training and starts it again after a failure, as torchrun --max-restarts does",
    )
    parser.add_argument(
        "--resume",
        metavar="RUN",
        help="continue this run with its own settings; only --data.root, --data.manifest, --device and "
        "--sharding may be given, if the dataset has moved or the machine is another",
    )


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
            lines.append(textwrap.fill(text, 100, initial_indent=indent, subsequent_indent=indent) + "\n")
    heading = [f"\n{inspect.getdoc(type(group))}\n"] if lines else []
    return heading + lines + inner


def _run(options: Namespace) -> None:
    overrides = parse_overrides(options.settings)
    if options.resume is not None:
        run = _resume(options, overrides)
    else:
        recipe = options.config or default_recipe(overrides)
        config = load_config(recipe, overrides=overrides, base=options.base)
        from mpfgvc.data.catalog import dataset_root

        dataset_root(config.data)  # refused here, it costs no import of torch
        if options.dry_run:
            _dry_run(options, recipe, config)
            return
        from mpfgvc.training.run import train

        run = train(config, out=options.out, auto_resume=options.auto_resume)
    if not output.is_first_process():
        return
    if options.json:
        output.write_json(run.to_dict())
        return
    from mpfgvc.cli.tables import write_run

    write_run(run)


def _dry_run(options: Namespace, recipe: str, config: Config) -> None:
    from mpfgvc.training.dry_run import dry_run

    result = dry_run(config, out=options.out)
    if not output.is_first_process():
        return
    if options.json:
        output.write_json({"recipe": recipe} | result.to_dict())
        return
    is_default = options.config is None and config.data.dataset == "synthetic"
    note = " (the default, synthetic birds: name your photographs with --data.root)" if is_default else ""
    photographs = ", ".join(f"{count} {split}" for split, count in result.photographs.items())
    many = "one process" if result.processes == 1 else f"{result.processes} processes"
    output.write_line(f"recipe       {recipe}{note}")
    output.write_line(f"towers       {result.image_tower} and {result.text_tower}")
    output.write_line(f"photographs  {photographs}; {result.classes} classes")
    output.write_line(f"computed on  {result.device}, {result.precision}, {many}")
    for part in result.parts:
        work = f"{part.count} {part.unit}, {1000 * part.seconds_each:.3g} ms each"
        output.write_line(f"  {part.name:<28} {_duration(part.seconds):>8}   {work}")
    output.write_line(f"in all       {_duration(result.seconds)}")
    for store in result.stores:
        what = f"{store.needs / 1e9:.3g} of {store.has / 1e9:.3g} GB, most of it for {store.part}"
        output.write_line(f"{store.name:<12} {what}")
    for line in result.advice or ("it fits",):
        output.write_line(line)
    busy = f", where {result.load_average:.1f} programs wanted a core" if result.load_average is not None else ""
    say(f"measured now on {result.cores} cores{busy}; a busy machine is slower than a quiet one")


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _resume(options: Namespace, overrides: Mapping[str, Any]) -> Run:
    others = [f"--{name}" for name in overrides if name not in RESUMABLE]
    others += [f"--{name}" for name in ("config", "base", "out") if getattr(options, name) is not None]
    others += ["--auto-resume"] if options.auto_resume else []
    others += ["--dry-run"] if options.dry_run else []
    if others:
        raise ConfigError(f"--resume keeps the run's own settings; leave out {others[0]}, or start a new run")
    from mpfgvc.training.run import resume

    return resume(
        options.resume,
        root=overrides.get("data.root"),
        manifest=overrides.get("data.manifest"),
        device=overrides.get("device"),
        sharding=overrides.get("sharding"),
    )


COMMAND = Command(
    name="train", add_options=_add_options, run=_run, takes_settings=True, shares_work=True, more_help=settings_help
)
