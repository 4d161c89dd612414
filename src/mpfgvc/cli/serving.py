"""A model behind HTTP: the options of a server, and its life; no torch.

`mpfgvc serve`, `mpfgvc demo` and `mpfgvc-runtime serve` share it.
"""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from dataclasses import fields
from importlib.util import find_spec
from typing import TYPE_CHECKING, get_args

from mpfgvc.cli import output
from mpfgvc.deploy.settings import LOOPBACK, Limits, checked_token
from mpfgvc.errors import ConfigError
from mpfgvc.launcher import core_count
from mpfgvc.terms import Source

if TYPE_CHECKING:
    import socket

    from fastapi import FastAPI

    from mpfgvc.inference.predictor import Predictor

TOKEN_VARIABLE = "MPFGVC_TOKEN"  # noqa: S105  # the name of a variable
STOPPED = "stopped; every request that was accepted has been answered"
_NEEDED = ("fastapi", "uvicorn", "python_multipart", "prometheus_client")
_HELP = {
    "batch_size": "photographs that the model is given at a time, at most",
    "wait": "milliseconds that a photograph waits for others to join its batch, at most",
    "queue": "photographs that may be inside at a time; more are refused with 503",
    "max_photographs": "photographs of one request",
    "max_megabytes": "size of one request",
    "max_megapixels": "size of one photograph",
    "timeout": "seconds for an upload, and the same again for its answer",
    "decoders": "threads that decode photographs",
}


def add_server_options(parser: ArgumentParser) -> None:
    """Where it listens, its token and its limits."""
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on; 0.0.0.0 for all (default: this machine only)",
    )
    parser.add_argument("--port", type=int, default=8000, help="port; 0 takes a free one (default: 8000)")
    parser.add_argument(
        "--token",
        help=f"what clients send as Authorization: Bearer TOKEN (default: the variable {TOKEN_VARIABLE}, "
        "which is not seen in the list of processes; without both, no token is needed)",
    )
    for each in fields(Limits):
        default = min(8, core_count()) if each.name == "decoders" else each.default
        kind = float if isinstance(each.default, float) else int
        text = f"{_HELP[each.name]} (default: {default:g})"
        parser.add_argument(f"--{each.name.replace('_', '-')}", type=kind, default=default, help=text)
    parser.add_argument(
        "--source", choices=get_args(Source), help="classifier to use (default: the model's own)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")


def limits_of(options: Namespace) -> Limits:
    """The limits that the options set. Raises ConfigError."""
    return Limits(**{each.name: getattr(options, each.name) for each in fields(Limits)})


def token_of(options: Namespace) -> str | None:
    """The token of the option, or else of the environment. Raises ConfigError for one that cannot be."""
    return checked_token(options.token if options.token is not None else os.environ.get(TOKEN_VARIABLE))


def listen(options: Namespace, *, package: str = "mpfgvc") -> socket.socket:
    """The socket of the server, before anything is loaded. Raises ConfigError, also for a missing package."""
    for name in _NEEDED:
        if find_spec(name) is None:
            raise ConfigError(f"a server needs {name}: pip install '{package}[serve]'")
    from mpfgvc.deploy.server import listen

    return listen(options.host, options.port)


def serve_model(
    options: Namespace, load: Callable[[], Predictor], *, say: Callable[[str], None], package: str = "mpfgvc"
) -> None:
    """Serve a model until the server is stopped."""
    limits, token = limits_of(options), token_of(options)
    with listen(options, package=package) as bound:
        from mpfgvc.deploy.app import create_app
        from mpfgvc.deploy.desk import warm_up

        model = load()
        warm_up(model)
        serve_until_stopped(create_app(model, limits=limits, token=token), bound, options, say=say)


def serve_until_stopped(
    app: FastAPI, bound: socket.socket, options: Namespace, *, say: Callable[[str], None], page: str = ""
) -> None:
    """Say where the server is, and serve. `page` is the path that people open, or "" if there is none."""
    from mpfgvc.deploy.access import answer_only_to
    from mpfgvc.deploy.server import address, run

    url, token = address(bound), token_of(options)
    if options.host in LOOPBACK:
        answer_only_to(app, LOOPBACK)
    elif token is None:
        say(f"anyone who can reach {url} can use the model; set a token with --token or {TOKEN_VARIABLE}")
    if options.json:
        output.write_json({"url": url, "page": f"{url}{page}" if page else None, "token": token is not None})
    else:
        output.write_line(
            f"open        {url}{page}" if page else f"listening   {url}   (routes: {url}/openapi.json)"
        )
    run(app, bound, stop_seconds=options.timeout)
    say(STOPPED)
