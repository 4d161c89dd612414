"""`mpfgvc demo`: the server of `mpfgvc serve`, with a page for people."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from mpfgvc.cli.command import Command, add_dataset_place, add_device, add_model
from mpfgvc.cli.serving import STOPPED, add_server_options, serve_model
from mpfgvc.progress import say

if TYPE_CHECKING:
    from fastapi import FastAPI

    from mpfgvc.inference.predictor import Predictor


def _add_options(parser: ArgumentParser) -> None:
    add_model(parser)
    add_server_options(parser)
    add_device(parser)
    add_dataset_place(parser)


def _run(options: Namespace) -> None:
    def add_page(app: FastAPI, predictor: Predictor) -> None:
        from mpfgvc.deploy.demo import add_demo, content_of

        content = content_of(options.model, predictor, root=options.root, manifest=options.manifest)
        for note in content.notes:
            say(note)
        add_demo(app, content)

    serve_model(options, say=say, add_page=add_page)


COMMAND = Command(
    name="demo",
    add_options=_add_options,
    run=_run,
    interrupted=STOPPED,
)
