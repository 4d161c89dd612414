"""`mpfgvc serve`: a model behind HTTP, until Ctrl-C or SIGTERM.

An exported model (.onnx) is served by the same code as in mpfgvc-runtime; torch is not imported then.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from mpfgvc.cli.command import Command, add_device, add_model
from mpfgvc.cli.predictions import add_engine, refuse_options_of_exports, refuse_options_of_runs
from mpfgvc.cli.serving import (
    STOPPED,
    add_server_options,
    limits_of,
    listen,
    serve_exported,
    serve_until_stopped,
    token_of,
)
from mpfgvc.progress import say

if TYPE_CHECKING:
    from mpfgvc.inference.predictor import Predictor


def load_predictor(options: Namespace) -> Predictor:
    """The model, ready to answer. Raises CheckpointError."""
    from mpfgvc.inference.predictor import Predictor

    return Predictor.from_pretrained(
        options.model, device=options.device, source=options.source, precision=options.precision
    )


def _add_options(parser: ArgumentParser) -> None:
    add_model(parser)
    add_server_options(parser)
    add_engine(parser)
    add_device(parser)


def _run(options: Namespace) -> None:
    if options.model.endswith(".onnx"):
        _run_exported(options)
        return
    refuse_options_of_exports(options)
    limits, token = limits_of(options), token_of(options)
    with listen(options) as bound:
        from mpfgvc.deploy.app import create_app
        from mpfgvc.deploy.predictor_model import PredictorModel, warm_up

        model = PredictorModel(load_predictor(options))
        warm_up(model)
        serve_until_stopped(create_app(model, limits=limits, token=token), bound, options, say=say)


def _run_exported(options: Namespace) -> None:
    refuse_options_of_runs(options)
    from mpfgvc.cli.runtime_command import open_runtime

    serve_exported(options, lambda: open_runtime(options), say=say, package="mpfgvc")


COMMAND = Command(
    name="serve",
    summary="answer photographs over HTTP",
    add_options=_add_options,
    run=_run,
    interrupted=STOPPED,
)
