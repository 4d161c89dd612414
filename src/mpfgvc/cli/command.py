"""What a command is, and the options that several of them share.

A file of this folder defines one or more of them. It imports torch and all that needs it only when a command
runs, so `mpfgvc --help` and a refused option are instant.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn, get_args

from mpfgvc.cli import output
from mpfgvc.errors import ConfigError
from mpfgvc.terms import Device, Engine, Precision

if TYPE_CHECKING:
    from mpfgvc.inference.answering import AnswerRules
    from mpfgvc.inference.predictor import Predictor


@dataclass(frozen=True, kw_only=True)
class Command:
    """One command of `mpfgvc`.

    `run` returns an exit code, or None for success. With `takes_settings`, the words that its parser does
    not know reach `run` as `options.settings`. `shares_work`: under torchrun all processes run
    it together; any other command runs on the first process only.
    """

    name: str
    """As it is typed; `data check` is the command check of the group data."""
    add_options: Callable[[ArgumentParser], None]
    run: Callable[[Namespace], int | None]
    takes_settings: bool = False
    shares_work: bool = False
    interrupted: str = "interrupted"
    """What Ctrl-C says."""
    more_help: Callable[[], str] = str
    """Text for the end of its `--help`, made when it is asked for."""


class Parser(ArgumentParser):
    """An argument parser whose refusals are one line, like all others."""

    more_help: Callable[[], str] = str

    def error(self, message: str) -> NoReturn:
        """Refuse with one line."""
        raise ConfigError(f"{message}; see {self.prog} --help")

    def print_help(self, file: object = None) -> None:
        """Print the help on standard output, which may be a closed pipe."""
        output.write(self.format_help() + self.more_help())


def add_model(parser: ArgumentParser) -> None:
    """The model, as the first word."""
    parser.add_argument("model", metavar="MODEL", help="run folder, model folder, .onnx file, or hf://user/name")


def add_photos(parser: ArgumentParser, *, default: str | None = None) -> None:
    """The photographs, as the other words; `default` says what is taken if there are none."""
    words = "files, folders or globs" + ("" if default is None else f" (default: {default})")
    parser.add_argument("photos", metavar="PHOTO", nargs="+" if default is None else "*", help=words)


def add_engine(parser: ArgumentParser, *, more: Sequence[str] = (), more_help: str = "") -> None:
    """`--engine` and `--threads`, for exported models; `more` are engines that run others."""
    parser.add_argument(
        "--engine",
        choices=(*get_args(Engine), *more),
        help="what runs an exported model; openvino is faster on CPUs with bf16, and a little less exact "
        f"(default: onnxruntime){more_help}",
    )
    parser.add_argument("--threads", type=int, help="threads of an exported model (default: one per core)")


def load_predictor(options: Namespace, rules: AnswerRules | None = None) -> Predictor:
    """The model that is named, ready to answer. Raises CheckpointError, and ConfigError for its options."""
    from mpfgvc.inference.predictor import Predictor

    names = ("device", "precision", "source", "engine", "threads")
    given = {name: getattr(options, name) for name in names if hasattr(options, name)}
    return Predictor.from_pretrained(options.model, rules=rules, **given)


def add_json(parser: ArgumentParser) -> None:
    """`--json`."""
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")


def add_config(parser: ArgumentParser) -> None:
    """`--config`."""
    parser.add_argument(
        "--config",
        metavar="RECIPE",
        help="name of a recipe, such as cub, or a YAML file, such as ./mine.yaml (default: folder if data "
        "are named, else synthetic); settings on the command line go on top",
    )


def add_device(parser: ArgumentParser) -> None:
    """`--device` and `--precision`."""
    parser.add_argument(
        "--device",
        choices=get_args(Device),
        default="auto",
        help="where to compute; auto takes an accelerator if there is one (default: auto)",
    )
    parser.add_argument(
        "--precision",
        choices=get_args(Precision),
        default="fp32",
        help="bf16 is faster on hardware made for it, and a little less exact (default: fp32)",
    )


def add_dataset_place(parser: ArgumentParser) -> None:
    """`--data.root` and `--data.manifest`, for the dataset of a run that has moved."""
    parser.add_argument("--data.root", dest="root", metavar="FOLDER", help="where the dataset is now, if it has moved")
    parser.add_argument(
        "--data.manifest", dest="manifest", metavar="FILE", help="where its manifest is now, if it has moved"
    )


def check_positive(options: Namespace, *names: str) -> None:
    """Raise ConfigError if one of these whole-number options is below 1."""
    for name in names:
        value = getattr(options, name.replace("-", "_"))
        if value < 1:
            raise ConfigError(f"--{name} must be at least 1, got {value}")
