"""`mpfgvc prompts`: what the class prompts of a run have learned."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from mpfgvc.cli import output
from mpfgvc.cli.command import Command, add_json, check_positive


def _add_options(parser: ArgumentParser) -> None:
    parser.add_argument("run_folder", metavar="RUN", help="run folder of a training")
    parser.add_argument("--words", type=int, default=1, help="words for each learned token (default: 1)")
    parser.add_argument("--pairs", type=int, default=10, help="pairs of classes to name (default: 10)")
    add_json(parser)


def _run(options: Namespace) -> None:
    check_positive(options, "words", "pairs")
    from mpfgvc.cli.tables import write_prompts
    from mpfgvc.training.learned_prompts import learned_prompts

    learned = learned_prompts(options.run_folder, words=options.words, pairs=options.pairs)
    if options.json:
        output.write_json(learned.to_dict())
    else:
        write_prompts(learned)


COMMAND = Command(name="prompts", add_options=_add_options, run=_run)
