"""`mpfgvc evaluate`: the accuracies of a run on a split of its dataset, or of two towers without any run."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from mpfgvc.cli import output
from mpfgvc.cli.command import Command, add_config, add_dataset_place, add_device, add_json, add_precision
from mpfgvc.errors import ConfigError
from mpfgvc.recipes_io import default_recipe, load_config, parse_overrides

if TYPE_CHECKING:
    from mpfgvc.evaluation.metrics import Evaluation


def _add_options(parser: ArgumentParser) -> None:
    parser.add_argument("run_folder", metavar="RUN", help="run folder of a training")
    _add_shared_options(parser)
    parser.add_argument(
        "--recall",
        metavar="K",
        type=int,
        nargs="+",
        default=[],
        help="also recall@K: how often one of the K nearest photographs has the same class, such as 1 2 4 8",
    )
    add_dataset_place(parser)
    add_device(parser)


def _add_zero_shot_options(parser: ArgumentParser) -> None:
    add_config(parser)
    _add_shared_options(parser)
    add_precision(parser)


def _add_shared_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--zero-shot",
        action="store_true",
        help="evaluate a CLIP's towers without any training; takes settings as train does, and no RUN "
        "(its own help: mpfgvc evaluate --zero-shot --help)",
    )
    add_json(parser)
    parser.add_argument(
        "--split",
        choices=["test", "validation", "train"],
        default="test",
        help="which photographs to evaluate (default: test)",
    )
    parser.add_argument(
        "--report",
        metavar="FOLDER",
        help="write a page here that shows the mistakes, index.html, and its tables as CSV",
    )


def _settings_help() -> str:
    from mpfgvc.cli.settings_help import settings_help

    return settings_help()


def _run(options: Namespace) -> None:
    if any(count < 1 for count in options.recall):
        raise ConfigError(f"--recall must be numbers of at least 1, got {' '.join(map(str, options.recall))}")
    from mpfgvc.evaluation.evaluate import evaluate

    evaluation = evaluate(
        options.run_folder,
        split=options.split,
        root=options.root,
        manifest=options.manifest,
        device=options.device,
        precision=options.precision,
        recall=options.recall,
        report=options.report,
    )
    _show(evaluation, options)


def _run_zero_shot(options: Namespace) -> None:
    words = options.settings
    if words and not words[0].startswith("--"):
        hint = "name towers and photographs by settings, such as --config clip --data.root photos/"
        raise ConfigError(f"--zero-shot takes no RUN, got {words[0]}; {hint}")
    overrides = parse_overrides(words)
    config = load_config(options.config or default_recipe(overrides), overrides=overrides)
    from mpfgvc.data.catalog import dataset_root

    dataset_root(config.data)  # refused here, it costs no import of torch
    from mpfgvc.evaluation.zero_shot import evaluate_zero_shot

    evaluation = evaluate_zero_shot(config, split=options.split, precision=options.precision, report=options.report)
    _show(evaluation, options)


def _show(evaluation: Evaluation, options: Namespace) -> None:
    if not output.is_first_process():
        return
    if options.json:
        output.write_json(evaluation.to_dict())
        return
    from mpfgvc.cli.tables import write_evaluation

    write_evaluation(evaluation, report=options.report)


ZERO_SHOT = Command(
    name="evaluate",
    summary="accuracies of two towers of one training, before any other, on the test split",
    add_options=_add_zero_shot_options,
    run=_run_zero_shot,
    takes_settings=True,
    shares_work=True,
    more_help=_settings_help,
)
COMMAND = Command(
    name="evaluate", add_options=_add_options, run=_run, shares_work=True, with_option={"--zero-shot": ZERO_SHOT}
)
