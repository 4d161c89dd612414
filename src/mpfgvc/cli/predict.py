"""`mpfgvc predict`: the classes of photographs, written as they are predicted.

Each photograph is written as soon as it has its guesses, so memory does not grow with their number,
and the output is whole after Ctrl-C. A photograph that cannot be read is written with the
reason, in its place in the order; their number is said at the end, and the exit code is 2.

A file of `mpfgvc export` is run by the same code as in mpfgvc-runtime; torch is not imported then.

With `-o` the guesses go into a folder of Parquet files, by this machine or by a cluster (many.py).
"""

from argparse import ArgumentParser, Namespace
from typing import get_args

from mpfgvc.cli.command import Command, add_device, add_model, check_positive
from mpfgvc.cli.many import add_many, refuse_options_of_many, run_many
from mpfgvc.cli.predictions import (
    add_engine,
    add_photos,
    add_rules,
    refuse_options_of_exports,
    refuse_options_of_runs,
    rules_of,
    write_predictions,
)
from mpfgvc.errors import ConfigError
from mpfgvc.progress import say
from mpfgvc.terms import RAY, Source


def _add_options(parser: ArgumentParser) -> None:
    add_model(parser)
    add_photos(parser)
    parser.add_argument(
        "--source",
        choices=get_args(Source),
        help="classifier to use (default: what the model answers with, fusion unless model.prediction named "
        "another)",
    )
    parser.add_argument("--batch-size", type=int, default=32, help="photographs at a time (default: 32)")
    parser.add_argument(
        "-o", "--out", metavar="FOLDER", help="write a folder of Parquet files, a row for each photograph"
    )
    add_engine(parser, more=(RAY,), more_help="; ray runs a trained model on a cluster, with -o")
    add_device(parser)
    add_rules(parser)
    add_many(parser)


def _run(options: Namespace) -> int:
    check_positive(options, "top", "batch-size")
    refuse_options_of_many(options)
    if options.out:
        return _run_many(options)
    if options.model.endswith(".onnx"):
        return _run_exported(options)
    refuse_options_of_exports(options)
    from mpfgvc.data.image_files import find_images
    from mpfgvc.inference.predictor import Predictor

    rules = rules_of(options)
    listing = find_images(options.photos)
    predictor = Predictor.from_pretrained(
        options.model,
        device=options.device,
        source=options.source,
        precision=options.precision,
        rules=rules,
    )
    predictions = predictor.predict_files(listing.photographs, top=options.top, batch_size=options.batch_size)
    return write_predictions(
        predictions,
        options,
        say=say,
        left_out=listing.left_out(),
        how=options.precision,
        notes=predictor.answering.notes,
    )


def _run_many(options: Namespace) -> int:
    if options.jsonl or options.csv:
        raise ConfigError("--jsonl and --csv print guesses, but -o writes them as Parquet; leave one out")
    if options.model.endswith(".onnx"):
        raise ConfigError(f"-o takes a run or a model folder, got {options.model}; give that, or use --csv")
    if options.engine != RAY:
        refuse_options_of_exports(options)
    elif options.threads is not None:
        raise ConfigError(f"--threads is for a .onnx file; with --engine {RAY} give --actor-cores")
    from mpfgvc.scale.task import Task

    task = Task.of(
        "guesses",
        options.model,
        source=options.source,
        precision=options.precision,
        top=options.top,
        rules=rules_of(options),
    )
    return run_many(options, task)


def _run_exported(options: Namespace) -> int:
    refuse_options_of_runs(options)
    from mpfgvc.cli.runtime_command import predict_exported

    return predict_exported(options, say=say)


COMMAND = Command(
    name="predict",
    summary="guess the classes of photographs",
    add_options=_add_options,
    run=_run,
    interrupted="interrupted; what was written is whole",
)
