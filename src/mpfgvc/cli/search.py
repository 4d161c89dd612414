"""`mpfgvc search`: the photographs that look most like others to the model, by their embeddings."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from mpfgvc.cli import output
from mpfgvc.cli.command import Command, add_device, add_json, add_model, add_photos, check_positive, load_predictor
from mpfgvc.errors import DataError, printable
from mpfgvc.progress import say

if TYPE_CHECKING:
    from mpfgvc.inference.embeddings import Neighbour


def _add_options(parser: ArgumentParser) -> None:
    add_model(parser)
    add_photos(parser)
    parser.add_argument(
        "--in",
        dest="index",
        metavar="FILE",
        help="where to look: a Parquet file of mpfgvc embed (default: embeddings.parquet in the run folder)",
    )
    parser.add_argument("--top", type=int, default=5, help="photographs that are found (default: 5)")
    add_json(parser)
    add_device(parser)


def _run(options: Namespace) -> None:
    check_positive(options, "top")
    from mpfgvc.data.listing import find_images
    from mpfgvc.inference.embeddings import index_for

    photographs = find_images(options.photos, say)
    index_file = _index_file(options)
    predictor = load_predictor(options)
    index = index_for(predictor, index_file)
    queries = predictor.embed(photographs)
    found = list(zip(photographs, index.nearest(queries, top=options.top), strict=True))
    if options.json:
        documents = [
            {"path": str(path), "nearest": [vars(neighbour) for neighbour in neighbours]} for path, neighbours in found
        ]
        output.write_json(documents)
        return
    for path, neighbours in found:
        lines = [str(path), *(_line(neighbour) for neighbour in neighbours)]
        output.write("".join(f"{printable(line)}\n" for line in lines))


def _index_file(options: Namespace) -> Path:
    """The file that is named, or that of the run. Raises DataError if the run has none."""
    if options.index is not None:
        return Path(options.index)
    from mpfgvc.run_folder import RunFolder

    own = RunFolder(options.model).embeddings
    if not own.is_file():
        hint = f"make it with mpfgvc embed {options.model}, or name another with --in"
        raise DataError(f"there are no embeddings to search: {own} does not exist; {hint}")
    return own


def _line(neighbour: Neighbour) -> str:
    return f"  {neighbour.similarity:.3f}  {neighbour.label or ''}  {neighbour.path}"


COMMAND = Command(name="search", add_options=_add_options, run=_run)
