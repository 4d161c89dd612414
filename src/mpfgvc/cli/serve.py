"""`mpfgvc serve`: a model behind HTTP, until Ctrl-C or SIGTERM; `mpfgvc demo`: with a page for people, too.

`mpfgvc-runtime serve` shares it: no torch is imported for an exported model (.onnx).
"""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from dataclasses import fields
from importlib.util import find_spec
from typing import TYPE_CHECKING, get_args
from urllib.parse import quote

from mpfgvc.cli import output
from mpfgvc.cli.command import Command, add_dataset_place, add_device, add_engine, add_model, load_predictor
from mpfgvc.deploy.server.settings import LOOPBACK, Limits, checked_origins, checked_token
from mpfgvc.errors import ConfigError
from mpfgvc.progress import say
from mpfgvc.terms import Source

if TYPE_CHECKING:
    from fastapi import FastAPI

    from mpfgvc.inference.predictor import Predictor

TOKEN_VARIABLE = "MPFGVC_TOKEN"  # noqa: S105  # the name of a variable
STOPPED = "stopped; every request that was accepted has been answered"
_NEEDED = ("fastapi", "uvicorn", "python_multipart", "prometheus_client")


def add_server_options(parser: ArgumentParser) -> None:
    """Where it listens, its token and its limits."""
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 for all (default: this machine only)"
    )
    parser.add_argument("--port", type=int, default=8000, help="port; 0 takes a free one (default: 8000)")
    parser.add_argument(
        "--token",
        help=f"what clients send as Authorization: Bearer TOKEN (default: the variable {TOKEN_VARIABLE}, "
        "which is not seen in the list of processes; without both, no token is needed)",
    )
    parser.add_argument(
        "--origin",
        metavar="URL",
        action="append",
        default=[],
        help="a site whose pages may read the answers, such as https://lab.example; may be repeated (default: none)",
    )
    usual = Limits()
    for limit in fields(Limits):
        default, about = getattr(usual, limit.name), limit.metadata["help"]
        option = f"--{limit.name.replace('_', '-')}"
        parser.add_argument(option, type=type(default), default=default, help=f"{about} (default: {default:g})")
    parser.add_argument("--source", choices=get_args(Source), help="classifier to use (default: the model's own)")
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")


def serve_model(options: Namespace, *, add_page: Callable[[FastAPI, Predictor], None] | None = None) -> None:
    """Serve a model until the server is stopped; `add_page` gives the application a page for people.

    Raises ConfigError for a wrong option, a missing package or an address that is taken, before the model is
    loaded.
    """
    limits = Limits(**{limit.name: getattr(options, limit.name) for limit in fields(Limits)})
    token = checked_token(options.token if options.token is not None else os.environ.get(TOKEN_VARIABLE))
    origins = checked_origins(options.origin)
    for name in _NEEDED:
        if find_spec(name) is None:
            raise ConfigError(f"a server needs {name}: pip install {name.replace('_', '-')}, or the extra serve")
    from mpfgvc.deploy.server.run import address, listen, run

    with listen(options.host, options.port) as bound:
        from mpfgvc.deploy.server.app import create_app, warm_up

        model = load_predictor(options)
        warm_up(model)
        local = options.host in LOOPBACK
        app = create_app(model, limits=limits, token=token, names=LOOPBACK if local else (), origins=origins)
        url, path = address(bound), ""
        if add_page is not None:
            add_page(app, model)
            path = "/" if token is None else f"/#token={quote(token)}"
        if not local and token is None:
            say(f"anyone who can reach {url} can use the model; set a token with --token or {TOKEN_VARIABLE}")
        page = f"{url}{path}" if path else None
        if options.json:
            output.write_json({"url": url, "page": page, "token": token is not None})
        elif page is not None:
            output.write_line(f"open        {page}")
        else:
            output.write_line(f"listening   {url}   (routes: {url}/docs)")
        run(app, bound, stop_seconds=limits.timeout)
    say(STOPPED)


def _add_serve_options(parser: ArgumentParser) -> None:
    add_model(parser)
    add_server_options(parser)
    add_engine(parser)
    add_device(parser)


def _add_demo_options(parser: ArgumentParser) -> None:
    add_model(parser)
    add_server_options(parser)
    add_device(parser)
    add_dataset_place(parser)


def _demo(options: Namespace) -> None:
    def add_page(app: FastAPI, predictor: Predictor) -> None:
        from mpfgvc.deploy.demo import add_demo, content_of

        content = content_of(options.model, predictor, root=options.root, manifest=options.manifest)
        for note in content.notes:
            say(note)
        add_demo(app, content)

    serve_model(options, add_page=add_page)


COMMANDS = (
    Command(name="serve", add_options=_add_serve_options, run=serve_model, interrupted=STOPPED),
    Command(name="demo", add_options=_add_demo_options, run=_demo, interrupted=STOPPED),
)
