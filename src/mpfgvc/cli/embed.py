"""`mpfgvc embed`: the embeddings of photographs, in a Parquet file that `search` and `explain` read.

Into a folder, part by part, by this machine or by a cluster, if `-o` ends with a slash (many.py).
"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from mpfgvc.cli import output
from mpfgvc.cli.command import (
    Command,
    add_dataset_place,
    add_device,
    add_json,
    add_model,
    add_photos,
    check_positive,
    load_predictor,
)
from mpfgvc.cli.many import add_many, check_options_of_many, run_many
from mpfgvc.errors import ConfigError, printable
from mpfgvc.progress import say
from mpfgvc.terms import RAY


def _add_options(parser: ArgumentParser) -> None:
    add_model(parser)
    add_photos(parser, default="all photographs of the run, with their classes")
    parser.add_argument(
        "-o",
        "--out",
        metavar="FILE",
        help="Parquet file to write, or a folder of them, with a slash at its end (default: "
        "embeddings.parquet in the run folder, for the run's own)",
    )
    parser.add_argument("--engine", choices=(RAY,), help="ray computes on a cluster, into a folder")
    parser.add_argument("--batch-size", type=int, default=32, help="photographs at a time (default: 32)")
    add_json(parser)
    add_dataset_place(parser)
    add_device(parser)
    add_many(parser)


def _run(options: Namespace) -> int:
    check_positive(options, "batch-size")
    if options.photos and options.out is None:
        raise ConfigError("--out must name a file for the embeddings, such as -o embeddings.parquet")
    check_options_of_many(options)
    if options.engine == RAY or _is_folder(options.out):
        return _run_many(options)
    from mpfgvc.files import pyarrow_for

    pyarrow_for("embeddings")
    from mpfgvc.data.listing import find_images
    from mpfgvc.inference.embeddings import embed_photos, embed_run

    notes: list[str] = []
    if options.photos:
        photographs = find_images(options.photos, notes.append)
        embedded = embed_photos(
            load_predictor(options), photographs, out=Path(options.out), batch_size=options.batch_size
        )
    else:
        embedded = embed_run(
            options.model,
            out=None if options.out is None else Path(options.out),
            root=options.root,
            manifest=options.manifest,
            batch_size=options.batch_size,
            device=options.device,
            precision=options.precision,
        )
    for note in (*notes, *embedded.notes):
        say(note)
    if options.json:
        output.write_json(embedded.to_dict())
    else:
        output.write_line(f"embeddings  {printable(str(embedded.path))}, {embedded.count} photographs")
    return 2 if embedded.unreadable else 0


def _is_folder(out: str | None) -> bool:
    return out is not None and (out.endswith("/") or Path(out).is_dir())


def _run_many(options: Namespace) -> int:
    if not options.photos:
        raise ConfigError("a folder of embeddings needs photographs; name some after the model")
    from mpfgvc.scale.jobs import Task

    task = Task(
        what="embeddings",
        model=options.model,
        precision=options.precision,
        device=options.device,
        batch_size=options.batch_size,
    )
    return run_many(options, task)


COMMAND = Command(name="embed", add_options=_add_options, run=_run, interrupted="interrupted; no file is half written")
