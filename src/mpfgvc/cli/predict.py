"""`mpfgvc predict`: the classes of photographs, written as they are predicted.

Each photograph is written as soon as it has its guesses, so memory does not grow with their number,
and the output is whole after Ctrl-C. A photograph that cannot be read is written with the
reason, in its turn; their number is said at the end, and the exit code is 2.

A file of `mpfgvc export` is run by the same code as in mpfgvc-runtime; torch is not imported then.

With `-o` the guesses go into a folder of Parquet files, by this machine or by a cluster (many.py).
"""

from argparse import ArgumentParser, Namespace
from typing import get_args

from mpfgvc.cli.command import Command, add_device, add_model, check_positive
from mpfgvc.cli.many import add_many, refuse_options_of_many, run_many
from mpfgvc.cli.predictions import add_engine, add_photos, add_rules, predict, rules_of
from mpfgvc.errors import ConfigError
from mpfgvc.progress import say
from mpfgvc.terms import RAY, Source


def _add_options(parser: ArgumentParser) -> None:
    add_model(parser)
    add_photos(parser)
    parser.add_argument(
        "--source",
        choices=get_args(Source),
        help="classifier to use (default: what the model answers with, fusion unless model.prediction named another)",
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
    return predict(options, say=say)


def _run_many(options: Namespace) -> int:
    if options.jsonl or options.csv:
        raise ConfigError("--jsonl and --csv print guesses, but -o writes them as Parquet; leave one out")
    if options.threads is not None:
        raise ConfigError("--threads is not for -o, which takes all cores; leave it out")
    from mpfgvc.scale.jobs import Task

    task = Task.of(
        "guesses",
        options.model,
        source=options.source,
        precision=options.precision,
        engine=None if options.engine == RAY else options.engine,
        top=options.top,
        rules=rules_of(options),
    )
    return run_many(options, task)


COMMAND = Command(
    name="predict", add_options=_add_options, run=_run, interrupted="interrupted; what was written is whole"
)
