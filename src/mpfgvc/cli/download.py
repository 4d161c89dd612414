"""`mpfgvc download`: fetch the weights of a recipe's towers, for a training without a network."""

from argparse import ArgumentParser, Namespace

from mpfgvc.cli import output
from mpfgvc.cli.command import Command, add_json
from mpfgvc.errors import printable
from mpfgvc.recipes_io import load_config, parse_overrides


def _add_options(parser: ArgumentParser) -> None:
    parser.add_argument("recipe", metavar="RECIPE", help="recipe, such as cub or folder, or a YAML file")
    parser.add_argument("--base", metavar="RECIPE", help="recipe that an ablation changes")
    add_json(parser)


def _run(options: Namespace) -> None:
    config = load_config(options.recipe, overrides=parse_overrides(options.settings), base=options.base)
    from mpfgvc.model.towers.hub import fetch, hub_files

    files = hub_files(config.model)
    found = [
        {"repository": file.repository, "file": file.name, "path": str(path), "bytes": path.stat().st_size}
        for file, path in zip(files, fetch(files), strict=True)
    ]
    if options.json:
        output.write_json(found)
        return
    for file in found:
        output.write_line(f"here  {file['repository']}/{file['file']}  {printable(str(file['path']))}")
    if not found:
        output.write_line(f"{options.recipe} needs nothing from the hub")


COMMAND = Command(name="download", add_options=_add_options, run=_run, takes_settings=True)
