"""The command `mpfgvc-runtime`: predict with an exported model where there is no torch.

    mpfgvc-runtime predict cub.onnx photos/ --top 5 --csv
    mpfgvc-runtime serve cub.onnx --port 8000
    mpfgvc-runtime describe cub.onnx --json

It is the same package with fewer dependencies. Exit codes are those of mpfgvc: 2 with one line for a user
error, 130 for Ctrl-C, 141 for a reader that went away.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import NoReturn, get_args

from mpfgvc.cli import output, predictions
from mpfgvc.cli.predictions import add_engine, add_photos, add_rules
from mpfgvc.cli.serve import add_server_options, serve_model
from mpfgvc.errors import ConfigError, MpfgvcError, printable
from mpfgvc.terms import Source


class _Parser(ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; see {self.prog} --help")


def command() -> NoReturn:
    """Run the command line and end this process."""
    sys.exit(main())


def main(words: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    output.prepare_streams()
    try:
        options = _parser().parse_args(words)
        code: int = options.run(options)
        return code
    except SystemExit:  # --help has been printed
        return 0
    except output.ReaderGoneError:
        return 141
    except MpfgvcError as error:
        _say(str(error))
        return 2
    except KeyboardInterrupt:
        _say("interrupted; what was written is whole")
        return 130


def _parser() -> ArgumentParser:
    parser = _Parser(prog="mpfgvc-runtime", description="Predict with a model of mpfgvc export, or serve it.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    predict = commands.add_parser("predict", help="guess the classes of photographs", allow_abbrev=False)
    predict.add_argument("model", metavar="FILE", help="a .onnx file of mpfgvc export")
    add_photos(predict)
    predict.add_argument("--source", choices=get_args(Source), help="classifier to use (default: the model's)")
    predict.add_argument("--batch-size", type=int, default=32, help="photographs at a time (default: 32)")
    add_engine(predict)
    add_rules(predict)
    predict.set_defaults(run=lambda options: predictions.predict(options, say=_say))
    serve = commands.add_parser("serve", help="answer photographs over HTTP", allow_abbrev=False)
    serve.add_argument("model", metavar="FILE", help="a .onnx file of mpfgvc export")
    add_server_options(serve)
    add_engine(serve)
    serve.set_defaults(run=_serve)
    describe = commands.add_parser("describe", help="say what is in a file", allow_abbrev=False)
    describe.add_argument("model", metavar="FILE", help="a .onnx file of mpfgvc export")
    describe.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    describe.set_defaults(run=_describe)
    return parser


def _serve(options: Namespace) -> int:
    serve_model(options, say=_say, package="mpfgvc-runtime")
    return 0


def _describe(options: Namespace) -> int:
    from mpfgvc.inference.exported import ExportedBackend

    description = ExportedBackend(options.model).description
    if options.json:
        output.write_json(asdict(description))
        return 0
    classes = f"{len(description.classes)} ({', '.join(description.classes[:3])}, ...)"
    rows = {
        "image tower": description.image_tower,
        "classes": classes,
        "answers with": description.prediction,
        "precision": description.precision,
        "photographs": " x ".join(map(str, description.preprocessing.image_size)),
        "written by": f"mpfgvc {description.version}",
    }
    output.write("".join(f"{name:13s}{printable(value)}\n" for name, value in rows.items()))
    return 0


def _say(line: str) -> None:
    with suppress(OSError):
        print(f"mpfgvc: {printable(line)}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    command()
