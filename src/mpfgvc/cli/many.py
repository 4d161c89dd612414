"""What `predict` and `embed` share for many photographs: a folder of Parquet, written here or by Ray.

The same command goes on with a job that was stopped, with or without `--engine ray`.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from mpfgvc.cli import output
from mpfgvc.cli.command import check_positive
from mpfgvc.errors import ConfigError, printable
from mpfgvc.progress import Bar, say
from mpfgvc.terms import RAY

if TYPE_CHECKING:
    from mpfgvc.scale.jobs import Job, Task

_OF_RAY = ("address", "actors", "actor_cores")
_NUMBERS = ("part-size", "actors", "actor-cores")


def add_many(parser: ArgumentParser) -> None:
    """The options of a cluster and of the parts."""
    many = parser.add_argument_group(
        "many photographs", "into a folder of Parquet files; the same command goes on after a stop"
    )
    many.add_argument("--part-size", type=int, metavar="N", help="photographs in a file of the folder (default: 512)")
    many.add_argument(
        "--address",
        help="with --engine ray: the cluster, such as host:6379 (default: RAY_ADDRESS, else one that is "
        "started on this machine and ends with the command)",
    )
    many.add_argument(
        "--actors",
        type=int,
        metavar="N",
        help="with --engine ray: processes that hold the model (default: as many as there is room for)",
    )
    many.add_argument(
        "--actor-cores",
        type=int,
        metavar="N",
        help="with --engine ray: cores of each (default: 1; with a GPU its share, at most 8)",
    )


def check_options_of_many(options: Namespace) -> None:
    """Raise ConfigError for options of a folder or of a cluster where they mean nothing."""
    is_ray = options.engine == RAY
    for name in ("part_size", *_OF_RAY):
        if getattr(options, name) is not None and not (is_ray or (name == "part_size" and options.out)):
            needs = "-o FOLDER" if name == "part_size" else f"--engine {RAY}"
            raise ConfigError(f"--{name.replace('_', '-')} needs {needs}; add it, or leave it out")
    if is_ray and not options.out:
        raise ConfigError(f"--engine {RAY} writes into a folder; name it, such as -o guesses/")


def run_many(options: Namespace, task: Task) -> int:
    """Carry out a job; the exit code. Raises what a job raises."""
    given = [name for name in _NUMBERS if getattr(options, name.replace("-", "_")) is not None]
    check_positive(options, *given)
    from mpfgvc.data.listing import photo_names
    from mpfgvc.scale.jobs import open_job, summary

    task, notes_of_rules = task.begun()
    for note in notes_of_rules:
        say(note)
    notes: list[str] = []
    names = photo_names(options.photos, notes.append)
    with open_job(Path(options.out), task, names, part_size=options.part_size) as job:
        _compute(job, options)
        found = summary(job)
    for note in notes:
        say(note)
    say(f"{found.count - found.unreadable} of {found.count} photographs computed in {options.precision}")
    if getattr(options, "abstain", None) is not None:
        say(f"{found.unsure} of {found.count - found.unreadable} answers are unsure")
    if found.unreadable:
        say(f"{found.unreadable} of {found.count} photographs cannot be read, for the reasons in the column error")
    if options.json:
        output.write_json({"folder": str(options.out), "parts": job.parts, **vars(found)})
    else:
        what = f"{printable(str(options.out))}, {found.count} photographs in {job.parts} files"
        output.write_line(f"{task.what}  {what}")
    return 2 if found.unreadable else 0


def _compute(job: Job, options: Namespace) -> None:
    """Compute what is missing, with a bar; on a cluster if one was asked for."""
    from mpfgvc.scale.jobs import PartWorker

    missing, total = job.missing(), len(job.names)
    done = total - sum(len(job.names_of(index)) for index in missing)
    if done:
        say(f"{done} of {total} photographs are done already")
    if options.engine == RAY:
        from mpfgvc.scale.ray_engine import Cluster, compute_with_ray

        cluster = Cluster(address=options.address, actors=options.actors, cores=options.actor_cores)
        written = compute_with_ray(job, missing, cluster)
    else:
        written = map(PartWorker(job).write, missing)
    bar = Bar(job.task.what, total=total, done=done)
    try:
        for photographs in written:
            bar.advance(photographs)
    except KeyboardInterrupt:
        say(f"what is done stays in {job.folder}; the same command goes on")
        raise
    bar.close()
