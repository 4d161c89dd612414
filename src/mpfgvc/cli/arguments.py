"""The words of the command line: every command, its options, and what they are called in its help.

Settings of a run (`--model.kept_tokens 96`) are not listed here: a command that takes them
passes on what it does not know, and `config_io` checks it. Nothing here imports torch.
"""

from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence
from typing import Any, NoReturn

from mpfgvc.errors import ConfigError

DEVICES = ("auto", "cpu", "cuda", "mps")


def parse(arguments: Sequence[str] | None = None) -> Namespace:
    """The options of one command: its name in `command`, words left for the settings in `settings`.

    Raises ConfigError for words that the command does not know. `--help` prints and exits.
    """
    options, rest = _parser().parse_known_args(arguments)
    if rest and not options.takes_settings:
        raise ConfigError(f"unknown option {rest[0]}; see mpfgvc {options.command} --help")
    options.settings = rest
    return options


class Parser(ArgumentParser):
    """An argument parser whose refusals are one line, like all the others."""

    def error(self, message: str) -> NoReturn:
        """Refuse with one line."""
        raise ConfigError(f"{message}; see {self.prog} --help")


def _parser() -> ArgumentParser:
    parser = Parser(
        prog="mpfgvc", description="Fine-grained visual classification with MP-FGVC.", allow_abbrev=False
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_train(commands)
    _add_evaluate(commands)
    _add_predict(commands)
    _add_explain(commands)
    _add_data(commands)
    return parser


def _add_train(commands: Any) -> None:
    command = _add(commands, "train", "train both stages, or continue a run", add_help=False)
    command.epilog = (
        "Every setting is an option of its dotted name, such as --model.kept_tokens 96; "
        "mpfgvc train --help lists them all."
    )
    command.add_argument(
        "-h", "--help", action="store_true", help="show this help with every setting, and exit"
    )
    command.add_argument(
        "--config", metavar="YAML", help="a recipe; settings on the command line go before it"
    )
    command.add_argument("--out", metavar="FOLDER", help="new run folder (default: runs/<dataset>-<number>)")
    command.add_argument("--resume", metavar="RUN", help="continue this run folder with its own settings")
    command.set_defaults(takes_settings=True, parser=command)


def _add_evaluate(commands: Any) -> None:
    command = _add(commands, "evaluate", "accuracies of a run on its test split")
    command.add_argument("run_folder", metavar="RUN", help="run folder of a training")
    command.add_argument("--split", choices=["test", "validation", "train"], default="test")
    command.add_argument(
        "--data.root", dest="root", metavar="FOLDER", help="where the dataset lies now, if it moved"
    )
    command.add_argument("--device", choices=DEVICES, default="auto", help="where to compute (default: auto)")
    command.add_argument("--report", metavar="FOLDER", help="write per-class and confusion tables (CSV) here")


def _add_predict(commands: Any) -> None:
    command = _add(commands, "predict", "guess the classes of photographs")
    command.add_argument("model", metavar="MODEL", help="run folder, model folder or hub id")
    command.add_argument("photos", metavar="PHOTO", nargs="+", help="files, folders or globs")
    command.add_argument("--top", type=int, default=5, help="guesses for each photograph (default: 5)")
    command.add_argument(
        "--source", choices=["fusion", "vision", "text"], default="fusion", help="source of logits"
    )
    command.add_argument("--csv", action="store_true", help="print CSV: path, rank, label, probability")
    command.add_argument("--batch-size", type=int, default=32, help="photographs at a time (default: 32)")
    command.add_argument("--device", choices=DEVICES, default="auto", help="where to compute (default: auto)")


def _add_explain(commands: Any) -> None:
    command = _add(commands, "explain", "draw what a prediction rests on: the patches that were kept")
    command.add_argument("model", metavar="MODEL", help="run folder, model folder or hub id")
    command.add_argument(
        "photos",
        metavar="PHOTO",
        nargs="*",
        help="files, folders or globs; none: photographs of the run's test",
    )
    command.add_argument("-o", "--out", metavar="PNG", required=True, help="picture to write")
    command.add_argument("--top", type=int, default=3, help="guesses for each photograph (default: 3)")
    command.add_argument("--most", type=int, default=4, help="photographs in the picture (default: 4)")
    command.add_argument("--device", choices=DEVICES, default="auto", help="where to compute (default: auto)")


def _add_data(commands: Any) -> None:
    data = commands.add_parser("data", help="look after datasets", allow_abbrev=False)
    actions = data.add_subparsers(required=True, metavar="ACTION")
    command = _add(actions, "data check", "find what is wrong with a dataset before training on it")
    command.add_argument("--config", metavar="YAML", help="a recipe; its data settings are used")
    command.add_argument("--quick", action="store_true", help="read the headers of the photographs alone")
    command.set_defaults(takes_settings=True)
    command = _add(actions, "data synthesize", "draw the synthetic birds into a folder, as CUB lies on disk")
    command.add_argument("--out", metavar="FOLDER", required=True, help="new folder of the dataset")
    command.epilog = (
        "Further settings: --data.birds.species 30, .train 20, .test 20, .image_size 96, .seed 0."
    )
    command.set_defaults(takes_settings=True)


def _add(commands: Any, name: str, summary: str, **options: Any) -> ArgumentParser:
    command: ArgumentParser = commands.add_parser(
        name.split()[-1],
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
        **options,
    )
    command.add_argument("--json", action="store_true", help="print one JSON document")
    command.set_defaults(command=name, takes_settings=False)
    return command
