"""Predictions or embeddings of any number of photographs, with the same rows here and on a cluster.

with open_job(folder, Task.of("guesses", "runs/cub"), names) as job:
    for photographs in compute(job, WorkerOptions()):
        ...                                   # of one part, just written
    print(summary(job))
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mpfgvc.errors import DataError, one_line
from mpfgvc.files import pyarrow_for
from mpfgvc.inference.embedding_file import ERROR
from mpfgvc.scale.job import Job
from mpfgvc.scale.means import Cluster, WorkerOptions
from mpfgvc.scale.part_rows import ANSWER


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What the parts of a job hold: photographs, those that cannot be read, and answers that are unsure."""

    photographs: int
    unreadable: int
    unsure: int

    def to_dict(self) -> dict[str, int]:
        """The numbers by name."""
        return {"count": self.photographs, "unreadable": self.unreadable, "unsure": self.unsure}


def compute(job: Job, means: WorkerOptions, cluster: Cluster | None = None) -> Iterator[int]:
    """Compute the parts that are missing; after each the number of its photographs. None: on this machine.

    Raises CheckpointError, DataError, ConfigError or OutputError for what stops the job; what is done stays.
    """
    missing = job.missing()
    if cluster is not None:
        from mpfgvc.scale.ray_engine import compute_with_ray

        yield from compute_with_ray(job, missing, means, cluster)
        return
    from mpfgvc.scale.part_worker import PartWorker

    worker = PartWorker(job, means)
    yield from map(worker.write, missing)


def summary(job: Job) -> Summary:
    """What the parts hold, from their footers alone. Raises DataError naming one that is damaged."""
    unreadable = unanswered = 0
    for number in range(job.parts):
        nulls = _nulls(job, number)
        unreadable += job.rows_of(number) - nulls[ERROR]
        unanswered += nulls.get(ANSWER, job.rows_of(number) - nulls[ERROR])
    return Summary(photographs=job.listed.photographs, unreadable=unreadable, unsure=unanswered - unreadable)


def _nulls(job: Job, number: int) -> dict[str, int]:
    """How many rows of a part have nothing in a column, for the columns that hold one text or number."""
    file = job.part(number)
    try:
        footer: Any = pyarrow_for("the results of a job").parquet.read_metadata(file)
        whole = footer.num_rows == job.rows_of(number)
        groups = [footer.row_group(place) for place in range(footer.num_row_groups)]
        nulls: dict[str, int] = {}
        for column in (group.column(place) for group in groups for place in range(group.num_columns)):
            if "." not in column.path_in_schema:
                nulls[column.path_in_schema] = (
                    nulls.get(column.path_in_schema, 0) + column.statistics.null_count
                )
    except (OSError, ValueError, AttributeError) as error:  # pyarrow's errors are ValueErrors
        raise DataError(
            f"cannot read {file}: {one_line(error)}; delete it and run the command again"
        ) from None
    if not whole:
        raise DataError(f"{file} has not {job.rows_of(number)} rows; delete it and run the command again")
    return nulls
