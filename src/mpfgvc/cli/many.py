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
    from mpfgvc.scale.job import Job
    from mpfgvc.scale.means import Cluster, WorkerOptions
    from mpfgvc.scale.task import Task

_OF_RAY = ("address", "actors", "actor_cores")
_NUMBERS = ("part-size", "actors", "actor-cores")


def add_many(parser: ArgumentParser) -> None:
    """The options of a cluster and of the parts."""
    many = parser.add_argument_group(
        "many photographs", "into a folder of Parquet files; the same command goes on after a stop"
    )
    many.add_argument(
        "--part-size", type=int, metavar="N", help="photographs in a file of the folder (default: 512)"
    )
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


def refuse_options_of_many(options: Namespace) -> None:
    """Refuse the options of a folder and of a cluster where they mean nothing. Raises ConfigError."""
    is_ray = options.engine == RAY
    for name in ("part_size", *_OF_RAY):
        if getattr(options, name) is not None and not (is_ray or (name == "part_size" and options.out)):
            needs = "-o FOLDER" if name == "part_size" else f"--engine {RAY}"
            raise ConfigError(f"--{name.replace('_', '-')} needs {needs}; add it, or leave it out")
    if is_ray and not options.out:
        raise ConfigError(f"--engine {RAY} writes into a folder; name it, such as -o guesses/")
    if is_ray and options.model.endswith(".onnx"):
        rule = f"--engine {RAY} takes a run or a model folder"
        raise ConfigError(f"{rule}, got {options.model}; give that, or use onnxruntime")


def run_many(options: Namespace, task: Task) -> int:
    """Carry out a job; the exit code. Raises what a job raises."""
    given = [name for name in _NUMBERS if getattr(options, name.replace("-", "_")) is not None]
    check_positive(options, *given)
    from mpfgvc.data.listing import photo_names
    from mpfgvc.scale.job import open_job
    from mpfgvc.scale.means import WorkerOptions
    from mpfgvc.scale.predict_many import summary

    for note in task.notes:
        say(note)
    notes: list[str] = []
    means = WorkerOptions(device=options.device, batch_size=options.batch_size)
    names = photo_names(options.photos, notes.append)
    with open_job(Path(options.out), task, names, part_size=options.part_size) as job:
        _carry_out(job, means, _cluster(options))
        found = summary(job)
    for note in notes:
        say(note)
    _say_summary(options, found.photographs, found.unreadable, found.unsure)
    if options.json:
        output.write_json({"folder": str(options.out), "parts": job.parts, **found.to_dict()})
    else:
        what = f"{printable(str(options.out))}, {found.photographs} photographs in {job.parts} files"
        output.write_line(f"{task.what}  {what}")
    return 2 if found.unreadable else 0


def _carry_out(job: Job, means: WorkerOptions, cluster: Cluster | None) -> None:
    """Compute what is missing, with a bar."""
    from mpfgvc.scale.predict_many import compute

    total = job.listed.photographs
    done = total - sum(map(job.rows_of, job.missing()))
    if done:
        say(f"{done} of {total} photographs are done already")
    bar = Bar(job.task.what, total=total, done=done)
    try:
        for photographs in compute(job, means, cluster):
            bar.advance(photographs)
    except KeyboardInterrupt:
        say(f"what is done stays in {job.folder}; the same command goes on")
        raise
    bar.close()


def _cluster(options: Namespace) -> Cluster | None:
    from mpfgvc.scale.means import Cluster

    if options.engine != RAY:
        return None
    return Cluster(address=options.address, actors=options.actors, cores=options.actor_cores)


def _say_summary(options: Namespace, total: int, unreadable: int, unsure: int) -> None:
    say(f"{total - unreadable} of {total} photographs computed in {options.precision}")
    if getattr(options, "abstain", None) is not None:
        say(f"{unsure} of {total - unreadable} answers are unsure")
    if unreadable:
        say(f"{unreadable} of {total} photographs cannot be read, for the reasons in the column error")
