"""`mpfgvc compare`: several recipes, several seeds, one table with intervals.

A recipe is an ablation of the package, such as `probe`, another recipe, or a file. Settings on the command
line change the base of every recipe alike, below what the recipe itself says.
"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from mpfgvc.cli import output
from mpfgvc.cli.command import Command, add_json
from mpfgvc.config import Config
from mpfgvc.errors import ConfigError
from mpfgvc.recipes_io import ablation_names, load_ablation, parse_overrides


def _add_options(parser: ArgumentParser) -> None:
    names = ", ".join(name.partition("/")[2] for name in ablation_names())
    parser.add_argument(
        "recipes",
        metavar="RECIPE",
        nargs="+",
        help=f"ablations ({names}), other recipes, such as cub, or YAML files, such as ./mine.yaml; they "
        "come first, then the options",
    )
    parser.add_argument(
        "--seeds",
        metavar="N",
        type=int,
        nargs="+",
        default=[3],
        help="one number: so many seeds, from 0 on; several: these seeds (default: 3)",
    )
    parser.add_argument(
        "--out",
        metavar="FOLDER",
        default="runs/compare",
        help="folder of the runs, one for each recipe and seed, and of the table (default: runs/compare); "
        "what is done there is not done again",
    )
    parser.add_argument(
        "--reference", metavar="RECIPE", help="what the others are compared with (default: the first)"
    )
    parser.add_argument(
        "--base",
        metavar="RECIPE",
        help="what the ablations change (default: folder if data are named, else synthetic)",
    )
    parser.add_argument(
        "--split",
        choices=["test", "validation"],
        default="test",
        help="validation: compare by held-out photographs and leave the test alone (default: test)",
    )
    add_json(parser)


def _run(options: Namespace) -> None:
    recipes = _load(options)
    seeds = _seeds(options)
    from mpfgvc.training.compare import compare

    comparison = compare(
        recipes, seeds=seeds, out=options.out, split=options.split, reference=options.reference
    )
    from mpfgvc.evaluation.comparison import write_comparison_files

    write_comparison_files(comparison, Path(options.out))
    if options.json:
        output.write_json(comparison.to_dict())
        return
    from mpfgvc.cli.tables import write_comparison

    write_comparison(comparison, options.out)


def _seeds(options: Namespace) -> list[int]:
    """One number is how many there are, several are the seeds themselves."""
    seeds: list[int] = options.seeds
    if len(seeds) > 1:
        return seeds
    if seeds[0] < 1:
        raise ConfigError(f"--seeds must be at least 1, or several seeds, got {seeds[0]}")
    return list(range(seeds[0]))


def _load(options: Namespace) -> dict[str, Config]:
    """The settings of each recipe, by the name of its folders."""
    settings = parse_overrides(options.settings)
    for name in ("seed", "final_test"):
        if name in settings:
            raise ConfigError(f"--{name} is set by the comparison; leave it out, and use --seeds and --split")
    recipes: dict[str, Config] = {}
    for word in options.recipes:
        name = Path(word).stem
        if name in recipes:
            raise ConfigError(f"two recipes are called {name}; give each another name")
        recipes[name] = load_ablation(word, settings=settings, base=options.base)
    return recipes


COMMAND = Command(
    name="compare",
    summary="train recipes with several seeds and compare them",
    add_options=_add_options,
    run=_run,
    takes_settings=True,
    shares_work=True,
    interrupted="interrupted; type the same command again to go on",
)
