"""`mpfgvc demo`: the server of `mpfgvc serve`, with a page for people."""

from argparse import ArgumentParser, Namespace
from urllib.parse import quote

from mpfgvc.cli.command import Command, add_dataset_place, add_device, add_model
from mpfgvc.cli.predictions import load_predictor
from mpfgvc.cli.serving import (
    STOPPED,
    add_server_options,
    limits_of,
    listen,
    serve_until_stopped,
    token_of,
)
from mpfgvc.progress import say


def _add_options(parser: ArgumentParser) -> None:
    add_model(parser)
    add_server_options(parser)
    add_device(parser)
    add_dataset_place(parser)


def _run(options: Namespace) -> None:
    limits, token = limits_of(options), token_of(options)
    with listen(options) as bound:
        from mpfgvc.deploy.app import create_app
        from mpfgvc.deploy.demo import add_demo
        from mpfgvc.deploy.desk import warm_up
        from mpfgvc.deploy.run_content import content_of

        predictor = load_predictor(options)
        warm_up(predictor)
        content = content_of(options.model, predictor, root=options.root, manifest=options.manifest)
        for note in content.notes:
            say(note)
        app = create_app(predictor, limits=limits, token=token)
        add_demo(app, content)
        page = "/" if token is None else f"/#token={quote(token)}"
        serve_until_stopped(app, bound, options, say=say, page=page)


COMMAND = Command(
    name="demo",
    summary="open a page on which to try a model",
    add_options=_add_options,
    run=_run,
    interrupted=STOPPED,
)
