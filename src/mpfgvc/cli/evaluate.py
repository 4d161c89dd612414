"""`mpfgvc evaluate` and `mpfgvc calibrate`: how right a run is, and what its probabilities are worth."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, get_args

from mpfgvc.cli import output
from mpfgvc.cli.command import Command, add_dataset_place, add_device, add_json
from mpfgvc.progress import say
from mpfgvc.terms import Device

if TYPE_CHECKING:
    from mpfgvc.evaluation.statistics import CalibrationError


def _add_options(parser: ArgumentParser) -> None:
    parser.add_argument("run_folder", metavar="RUN", help="run folder of a training")
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
    add_dataset_place(parser)
    add_device(parser)


def _evaluate(options: Namespace) -> None:
    from mpfgvc.evaluation.evaluate import evaluate

    evaluation = evaluate(
        options.run_folder,
        split=options.split,
        root=options.root,
        manifest=options.manifest,
        device=options.device,
        precision=options.precision,
        report=options.report,
    )
    if not output.is_first_process():
        return
    if options.json:
        output.write_json(evaluation.to_dict())
        return
    from mpfgvc.cli.tables import write_evaluation

    write_evaluation(evaluation, report=options.report)


def _add_calibrate_options(parser: ArgumentParser) -> None:
    parser.add_argument("run_folder", metavar="RUN", help="run folder of a training")
    add_json(parser)
    parser.add_argument(
        "--data.root",
        dest="root",
        metavar="FOLDER",
        help="class folders of photographs that the run was not trained on (default: its validation split); "
        "or where its dataset is now",
    )
    parser.add_argument("--data.manifest", dest="manifest", metavar="FILE", help="a manifest of such photographs")
    parser.add_argument(
        "--taxonomy",
        metavar="FILE",
        help="also give the model a tree above its classes: a CSV file or NABirds' hierarchy.txt",
    )
    parser.add_argument("--device", choices=get_args(Device), default="auto", help="where to compute (default: auto)")


def _calibrate(options: Namespace) -> None:
    from mpfgvc.evaluation.calibration import calibrate

    found = calibrate(
        options.run_folder,
        root=options.root,
        manifest=options.manifest,
        taxonomy=options.taxonomy,
        device=options.device,
    )
    for note in found.notes:
        say(note)
    if options.json:
        output.write_json(found.to_dict())
        return
    temperature = found.calibration.temperature_of(found.source)
    output.write_line(f"calibrated on {found.calibration.photographs}")
    output.write_line(f"temperature          {temperature:.3f}  ({found.source})")
    output.write_line(f"calibration error    {_words(found.before)} before")
    output.write_line(f"                     {_words(found.after)} after, on the same photographs")
    levels = next(iter(found.answered.values()))
    rows = [[level, *(f"{100 * shares[level]:.0f}" for shares in found.answered.values())] for level in levels]
    output.write_table(["answered, %, if wrong may be", *(f"{risk:.0%}" for risk in found.answered)], rows)
    finer = " --back-off; a level counts what is answered there or finer" if len(levels) > 1 else ""
    output.write_line(f"of these photographs, by predict --abstain SHARE{finer}")


def _words(error: CalibrationError) -> str:
    low, high = error.interval.low, error.interval.high
    return f"{100 * error.value:.1f} % (95 %: {100 * low:.1f} to {100 * high:.1f})"


COMMANDS = (
    Command(name="evaluate", add_options=_add_options, run=_evaluate, shares_work=True),
    Command(name="calibrate", add_options=_add_calibrate_options, run=_calibrate),
)
