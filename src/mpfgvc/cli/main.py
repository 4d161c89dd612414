"""The command line: the table of commands, and what a person sees when one fails.

Results go to standard output (`--json`: one JSON document and nothing else), notes and progress to
standard error. A user error ends with one line and exit code 2, Ctrl-C with 130, a reader
that went away (`| head`) with 141, as for other tools. Any other exception is a bug and shows
its traceback. A new command is a line in `COMMANDS`; only the file of the command that is asked for is imported.
"""

import difflib
import logging
import re
import sys
import warnings
from argparse import Namespace, RawDescriptionHelpFormatter
from collections.abc import Mapping, Sequence
from importlib import import_module

from mpfgvc.cli import output
from mpfgvc.cli.command import Command, Parser
from mpfgvc.errors import ConfigError, MpfgvcError
from mpfgvc.progress import close_bars, say
from mpfgvc.terms import VERSION

Commands = Mapping[str, tuple[str, str]]
"""The commands of a program, as they are typed: the file beside this one that defines each, and what it does."""
COMMANDS: Commands = {
    "train": ("train", "train both stages, or continue a run"),
    "evaluate": ("evaluate", "accuracies of a run on its test split"),
    "predict": ("predict", "guess the classes of photographs"),
    "explain": ("explain", "draw what a prediction rests on: the kept patches, and what each of them says"),
    "embed": ("embed", "write the embeddings of photographs, to search and compare by"),
    "search": ("search", "find the photographs that look most alike to the model"),
    "prompts": ("prompts", "say what the class prompts of a run have learned, and which classes came close"),
    "calibrate": ("evaluate", "make a model's probabilities mean something, for answers that may be unsure"),
    "serve": ("serve", "answer photographs over HTTP"),
    "demo": ("serve", "open a page on which to try a model"),
    "export": ("export", "write a trained model as one file, for onnxruntime or OpenVINO"),
    "download": ("download", "fetch the weights of a recipe, for a training without a network"),
    "compare": ("compare", "train recipes with several seeds and compare them"),
    "push": ("push", "push a finished run to the Hugging Face hub, with a model card"),
    "data check": ("data", "find what is wrong with a dataset before training on it"),
    "data pack": ("data", "write a dataset as tar shards (WebDataset), if wished as smaller copies"),
    "data synthesize": ("data", "draw the synthetic birds into a folder, in the layout of CUB"),
}
GROUPS = {"data": "check a dataset, pack it, or draw a synthetic one"}
"""Commands of two words, by their first."""
EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130
EXIT_READER_GONE = 141


def main(arguments: Sequence[str] | None = None, *, program: str = "mpfgvc", commands: Commands = COMMANDS) -> int:
    """Run one of the commands of a program; returns the exit code."""
    logging.basicConfig(level=logging.ERROR, format="%(name)s: %(message)s")
    for handler in logging.getLogger().handlers:  # libraries lower the level of their own loggers
        handler.setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning_fabric|torch|torchmetrics")
    output.prepare_streams()
    interrupted = "interrupted"
    try:
        try:
            options = _parse(sys.argv[1:] if arguments is None else arguments, program, commands)
        except SystemExit:  # --help has been printed
            return 0
        interrupted = options.command.interrupted
        return _run(options.command, options)
    except output.ReaderGoneError:
        return EXIT_READER_GONE
    except MpfgvcError as error:
        _say_error(error)
        return EXIT_USER_ERROR
    except KeyboardInterrupt as stop:
        close_bars()
        if output.is_first_process():
            say(str(stop) or interrupted)
        return EXIT_INTERRUPTED
    finally:
        close_bars()


def _run(command: Command, options: Namespace) -> int:
    if not command.shares_work and not output.is_first_process():
        return 0
    return command.run(options) or 0


def _say_error(error: MpfgvcError) -> None:
    """What is wrong on every process, such as a setting, is said once; another error where it occurs."""
    close_bars()
    said = error.said_by_first or isinstance(error, ConfigError)
    if output.is_first_process() or not said:
        say(str(error))


def _parse(words: Sequence[str], program: str, commands: Commands) -> Namespace:
    """The options of one command, with the command itself as `command`; the rest is in `settings`.

    Raises ConfigError for words that the command does not know. `--help` prints and exits.
    """
    options, rest = _parser(words, program, commands).parse_known_args(words)
    options.settings = rest
    _refuse_early_option(options.command, options.parser, words)
    for word in rest:
        _refuse_unknown_option(options.command, options.parser, word)
    return options


def _refuse_early_option(command: Command, parser: Parser, words: Sequence[str]) -> None:
    """Refuse an option before the command, known or not."""
    for word in words[: words.index(command.name.split()[-1])]:
        name = word.partition("=")[0]
        if name.startswith("-"):
            raise ConfigError(f"{name} belongs behind the command: {parser.prog} ... {name}")


def _refuse_unknown_option(command: Command, parser: Parser, word: str) -> None:
    """Refuse a word that is not an option; `recipes_io` checks what may be a setting or its value."""
    name = word.partition("=")[0]
    known = re.findall(r"--[\w.-]+", parser.format_usage())
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
    if not command.takes_settings or (near and word.startswith("--") and "." not in name):
        hint = f"did you mean {near[0]}?" if near else f"see {parser.prog} --help"
        raise ConfigError(f"unknown option {word}; {hint}")


def command_named(name: str, commands: Commands = COMMANDS) -> Command:
    """The command as its file defines it."""
    module = import_module(f"mpfgvc.cli.{commands[name][0]}")
    defined: tuple[Command, ...] = getattr(module, "COMMANDS", None) or (module.COMMAND,)
    return next(command for command in defined if command.name == name)


def _parser(words: Sequence[str], program: str, commands: Commands) -> Parser:
    """The parser of all commands; only the one that is asked for has its options."""
    description = "Fine-grained visual classification with MP-FGVC."
    parser = Parser(prog=program, description=description, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"{program} {VERSION}")
    top = parser.add_subparsers(required=True, metavar="COMMAND")
    groups = {}
    for name, summary in GROUPS.items() if commands is COMMANDS else ():
        group = top.add_parser(name, help=summary, description=_sentence(summary), allow_abbrev=False)
        groups[name] = group.add_subparsers(required=True, metavar="ACTION")
    typed = [word for word in words if not word.startswith("-")]
    for name, (_, summary) in commands.items():
        group_name, _, action = name.rpartition(" ")
        parsers = groups[group_name] if group_name else top
        if typed[: len(name.split())] != name.split():
            parsers.add_parser(action, help=summary)
            continue
        command = command_named(name, commands)
        sub = parsers.add_parser(
            action,
            help=summary,
            description=_sentence(summary),
            formatter_class=RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        sub.more_help = command.more_help
        command.add_options(sub)
        sub.set_defaults(command=command, parser=sub)
    return parser


def _sentence(summary: str) -> str:
    return f"{summary[0].upper()}{summary[1:]}."
