"""The command `mpfgvc-runtime`: predict with an exported model where there is no torch.

    mpfgvc-runtime predict cub.onnx photos/ --top 5 --csv
    mpfgvc-runtime serve cub.onnx --port 8000
    mpfgvc-runtime describe cub.onnx --json

It is the same package with fewer dependencies, and fewer commands.
"""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import asdict
from typing import NoReturn

from mpfgvc.cli import main as cli
from mpfgvc.cli import output
from mpfgvc.cli.command import Command, add_json
from mpfgvc.errors import printable

PROGRAM = {
    "predict": ("predict", "guess the classes of photographs"),
    "serve": ("serve", "answer photographs over HTTP"),
    "describe": ("runtime_command", "say what is in a file of mpfgvc export"),
}


def command() -> NoReturn:
    """Run the command line and end this process."""
    sys.exit(main())


def main(words: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    return cli.main(words, program="mpfgvc-runtime", commands=PROGRAM)


def _add_options(parser: ArgumentParser) -> None:
    parser.add_argument("model", metavar="FILE", help="a .onnx file of mpfgvc export")
    add_json(parser)


def _describe(options: Namespace) -> None:
    from mpfgvc.inference.exported import ExportedBackend

    description = ExportedBackend(options.model).description
    if options.json:
        output.write_json(asdict(description))
        return
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


COMMAND = Command(name="describe", add_options=_add_options, run=_describe)

if __name__ == "__main__":
    command()
