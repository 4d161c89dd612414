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
from mpfgvc.recipes_io import ablation_names, load_config, parse_overrides


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
        help="one number: how many seeds, 0, 1, 2 and so on; several numbers: these seeds (default: 3)",
    )
    parser.add_argument("--seed", metavar="SEED", type=int, help="one seed alone, by its own number")
    parser.add_argument(
        "--out",
        metavar="FOLDER",
        default="runs/compare",
        help="folder of the runs, one for each recipe and seed, and of the table (default: runs/compare); "
        "what is done there is not done again",
    )
    parser.add_argument("--reference", metavar="RECIPE", help="what the others are compared with (default: the first)")
    parser.add_argument(
        "--base", metavar="RECIPE", help="what the ablations change (default: folder if data are named, else synthetic)"
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

    comparison = compare(recipes, seeds=seeds, out=options.out, split=options.split, reference=options.reference)
    from mpfgvc.evaluation.comparison import write_comparison_files

    write_comparison_files(comparison, Path(options.out))
    if options.json:
        output.write_json(comparison.to_dict())
        return
    from mpfgvc.cli.tables import write_comparison

    write_comparison(comparison, options.out)


def _seeds(options: Namespace) -> list[int]:
    """One number of --seeds is how many there are, several are the seeds themselves; --seed is one."""
    if options.seed is not None and options.seeds is not None:
        raise ConfigError("--seed names one seed and --seeds several; leave out one of them")
    if options.seed is not None:
        return [options.seed]
    seeds: list[int] = options.seeds or [3]
    if len(seeds) > 1:
        return seeds
    if seeds[0] < 1:
        hint = "the seed of that number alone is --seed"
        raise ConfigError(f"--seeds must be at least 1, how many there are, got {seeds[0]}; {hint}")
    return list(range(seeds[0]))


def _load(options: Namespace) -> dict[str, Config]:
    """The settings of each recipe, by the name of its folders."""
    settings = parse_overrides(options.settings)
    if "final_test" in settings:
        raise ConfigError("--final_test is set by the comparison; leave it out, and use --split")
    recipes: dict[str, Config] = {}
    for word in options.recipes:
        name = Path(word).stem
        if name in recipes:
            raise ConfigError(f"two recipes are called {name}; give each another name")
        recipes[name] = load_config(word, below=settings, base=options.base)
    return recipes


COMMAND = Command(
    name="compare",
    add_options=_add_options,
    run=_run,
    takes_settings=True,
    shares_work=True,
    interrupted="interrupted; type the same command again to go on",
)
