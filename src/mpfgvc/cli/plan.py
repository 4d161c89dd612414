"""`mpfgvc plan`: what a training would take in memory, time and money, before it is started."""

from __future__ import annotations

import math
from argparse import ArgumentParser, Namespace

from mpfgvc.cli import output
from mpfgvc.cli.command import Command, add_config, add_json
from mpfgvc.config_io import default_recipe, load_config, parse_overrides
from mpfgvc.errors import ConfigError

GIGABYTE = 1e9


def _add_options(parser: ArgumentParser) -> None:
    add_json(parser)
    add_config(parser)
    parser.add_argument("--classes", required=True, metavar="N", help="number of classes, such as 10000")
    parser.add_argument(
        "--images",
        required=True,
        metavar="N",
        help="photographs for training and validation, such as 5e6",
    )
    parser.add_argument("--gpus", default="1", metavar="N", help="processes, one for each GPU (default: 1)")
    parser.add_argument(
        "--rate",
        default="measured",
        metavar="RATE",
        help="h200, h100, a100 or l4: by the data sheet and an assumed utilisation; a number: TFLOP/s that a "
        "process sustains; measured: a few seconds of work on this machine (default: measured)",
    )
    parser.add_argument(
        "--memory",
        metavar="GB",
        help="memory of one GPU, or of this machine (default: what it has)",
    )
    parser.add_argument(
        "--host-memory",
        metavar="GB",
        help="memory of a machine of 8 GPUs (default: not judged)",
    )
    parser.add_argument("--price", metavar="MONEY", help="of one GPU for an hour, in any currency")


def _settings_help() -> str:
    from mpfgvc.cli.settings_help import settings_help

    return settings_help()


def _run(options: Namespace) -> None:
    counts = {name: _count(options, name, least) for name, least in _LEAST.items()}
    amounts = {name: _amount(options, name) for name in ("memory", "host-memory", "price")}
    from mpfgvc.scale.sheets import check_rate

    check_rate(options.rate)
    overrides = parse_overrides(options.settings)
    config = load_config(options.config or default_recipe(overrides), overrides=overrides)

    from mpfgvc.scale.fit import make_fit
    from mpfgvc.scale.plan import Planner, Question
    from mpfgvc.training.planned import PlannedTraining

    question = Question(
        classes=counts["classes"],
        images=counts["images"],
        processes=counts["gpus"],
        rate=options.rate,
        memory=_bytes(amounts["memory"]),
        host_memory=_bytes(amounts["host-memory"]),
        price=amounts["price"],
    )
    planner = Planner(question, PlannedTraining(), config)
    plan = planner.plan(config)
    fit = make_fit(planner, plan)
    if options.json:
        output.write_json(plan.to_dict() | {"fit": fit.to_dict(plan)})
        return
    from mpfgvc.cli.plan_table import write_plan

    write_plan(plan, fit)


_LEAST = {"classes": 2, "images": 1, "gpus": 1}
"""The whole numbers that are asked for, and the least of each."""


def _count(options: Namespace, name: str, least: int) -> int:
    """A whole number, also as 5e6. Raises ConfigError."""
    word = getattr(options, name)
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not (least <= value <= 1e12 and value == int(value)):
        raise ConfigError(f"--{name} must be a whole number of at least {least}, got {word}")
    return int(value)


def _amount(options: Namespace, name: str) -> float | None:
    """A number above 0, or None. Raises ConfigError."""
    word = getattr(options, name.replace("-", "_"))
    if word is None:
        return None
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise ConfigError(f"--{name} must be a number above 0, got {word}")
    return value


def _bytes(gigabytes: float | None) -> float | None:
    return None if gigabytes is None else gigabytes * GIGABYTE


COMMAND = Command(
    name="plan",
    summary="say what a training would take: memory of each part, time, and what will not fit",
    add_options=_add_options,
    run=_run,
    takes_settings=True,
    more_help=_settings_help,
)
