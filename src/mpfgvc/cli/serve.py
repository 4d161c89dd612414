"""`mpfgvc serve`: a model behind HTTP, until Ctrl-C or SIGTERM.

An exported model (.onnx) is served by the same code as in mpfgvc-runtime; torch is not imported then.
"""

from argparse import ArgumentParser, Namespace

from mpfgvc.cli.command import Command, add_device, add_model
from mpfgvc.cli.predictions import add_engine
from mpfgvc.cli.serving import STOPPED, add_server_options, serve_model
from mpfgvc.progress import say


def _add_options(parser: ArgumentParser) -> None:
    add_model(parser)
    add_server_options(parser)
    add_engine(parser)
    add_device(parser)


def _run(options: Namespace) -> None:
    serve_model(options, say=say)


COMMAND = Command(
    name="serve",
    add_options=_add_options,
    run=_run,
    interrupted=STOPPED,
)
