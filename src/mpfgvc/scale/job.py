"""A job: the same thing computed about each of many photographs, in a folder that any engine can go on with.

    part-00000012.parquet    the rows of the photographs 12 * part_size and on: written whole, or not there
    _photographs             their names, in order (job_list.py)
    _job.json                what is computed, about which photographs

A part that is there is done. So a job goes on after any kill, on one machine or on many, and no row can come
twice. Readers of Parquet folders pass over names that begin with `_`. No torch.
"""

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpfgvc.errors import CheckpointError, DataError
from mpfgvc.files import claim_folder, make_folder, remove_leftovers, write_text
from mpfgvc.scale.job_list import Counted, PhotoList, count_names, write_names
from mpfgvc.scale.task import Task

JOB, LIST = "_job.json", "_photographs"
FORMAT = 1
PART_SIZE = 512
"""Photographs in a part."""
_WORDS = {"list": "other photographs", "model": "another model", "format": "another version of mpfgvc"}


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job in its folder; `base` is where paths in its list start from. It can be sent to other machines."""

    folder: Path
    base: Path
    task: Task
    part_size: int
    listed: Counted

    @property
    def parts(self) -> int:
        """How many parts it has."""
        return -(-self.listed.photographs // self.part_size)

    @property
    def photographs(self) -> PhotoList:
        """The names of its photographs, part by part."""
        return PhotoList(self.folder / LIST)

    def part(self, number: int) -> Path:
        """The file of a part."""
        return self.folder / f"part-{number:08d}.parquet"

    def rows_of(self, number: int) -> int:
        """The photographs of a part; the last may have fewer."""
        return min(self.part_size, self.listed.photographs - number * self.part_size)

    def missing(self) -> list[int]:
        """The parts that are not there, in order."""
        there = {entry.name for entry in os.scandir(self.folder)}
        return [number for number in range(self.parts) if self.part(number).name not in there]

    def refuse_if_gone(self) -> None:
        """Raise CheckpointError if the folder is that of another job by now: who is late must not write."""
        if _read(self.folder) != self.to_dict():
            raise CheckpointError(f"{self.folder} is not the folder of this job any more; it was begun anew")

    def save(self) -> None:
        """Write what the job is. Raises OutputError."""
        write_text(self.folder / JOB, json.dumps(self.to_dict(), indent=2) + "\n")

    def to_dict(self) -> dict[str, Any]:
        """What `_job.json` holds."""
        listed = {"photographs": self.listed.photographs, "list": self.listed.digest}
        place = {"part_size": self.part_size, "base": str(self.base)}
        return {"format": FORMAT, **self.task.to_dict(), **listed, **place}


@contextmanager
def open_job(
    folder: Path, task: Task, names: Iterable[str], *, part_size: int | None = None
) -> Iterator[Job]:
    """The job of a folder, which is this process's within the block: begun, or gone on with.

    `names` are its photographs. Raises CheckpointError, in one line, for a folder that holds something else,
    that another process works in, or a job of another model, other photographs or options.
    """
    _refuse_strangers(folder)
    make_folder(folder)
    try:
        with claim_folder(folder):
            begun = _read(folder)
            if begun is None:
                job = _begin(folder, task, names, PART_SIZE if part_size is None else part_size)
            else:
                job = _go_on(folder, task, names, begun, part_size)
            remove_leftovers(folder)
            yield job
    finally:
        with suppress(OSError):  # a folder that is still empty after a refusal
            folder.rmdir()


def _begin(folder: Path, task: Task, names: Iterable[str], part_size: int) -> Job:
    base = Path.cwd()
    listed = write_names(folder / LIST, names, base=base, part_size=part_size)
    job = Job(folder=folder.absolute(), base=base, task=task, part_size=part_size, listed=listed)
    job.save()
    return job


def _go_on(
    folder: Path, task: Task, names: Iterable[str], begun: dict[str, Any], part_size: int | None
) -> Job:
    """The job that `begun` describes. Raises CheckpointError if task, names or size are others."""
    job = Job(
        folder=folder.absolute(),
        base=Path(str(begun.get("base"))),
        task=task,
        part_size=begun["part_size"] if part_size is None else part_size,
        listed=count_names(names, base=Path.cwd()),
    )
    _refuse_other(folder, begun, job.to_dict())
    return job


def _refuse_strangers(folder: Path) -> None:
    """Refuse a folder that holds anything but a job, or the beginning of one."""
    if not folder.is_dir() or (folder / JOB).exists():
        return
    strangers = [entry.name for entry in os.scandir(folder) if not entry.name.startswith((".", "_"))]
    if strangers:
        hint = "choose a new folder for --out"
        raise CheckpointError(f"{folder} holds files of something else, such as {strangers[0]}; {hint}")


def _read(folder: Path) -> dict[str, Any] | None:
    """What the job of a folder is; None if it has none."""
    try:
        document = json.loads((folder / JOB).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        document = None
    if not isinstance(document, dict) or type(document.get("part_size")) is not int:
        raise DataError(f"{folder / JOB} is damaged; choose another --out, or delete {folder} to begin anew")
    return document


def _refuse_other(folder: Path, begun: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Refuse to go on with a job that is about something else; says the first difference."""
    for name, value in wanted.items():
        if begun.get(name) == value:
            continue
        if name == "photographs":
            what = f"{begun.get(name)} photographs, now there are {value}"
        else:
            what = _WORDS.get(name, f"{name} {_short(begun.get(name))}, got {_short(value)}")
        hint = "give the same again, or choose another --out"
        raise CheckpointError(f"{folder} holds a job of {what}; {hint}")


def _short(value: object) -> str:
    return f"{json.dumps(value):.80}"
