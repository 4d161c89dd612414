"""Who computes parts of a job: the model is loaded once, then each part is read, computed and written.

The same on one machine and in an actor of a cluster, so both write the same rows.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch

from mpfgvc.data.listing import photograph
from mpfgvc.inference.predictor import Predictor
from mpfgvc.scale.job import Job
from mpfgvc.scale.means import WorkerOptions
from mpfgvc.scale.part_rows import embedding_rows, guess_rows, write_rows


class PartWorker:
    """Computes parts of one job. The model is loaded with the first of them."""

    def __init__(self, job: Job, means: WorkerOptions) -> None:
        self.job, self.means = job, means
        self.photographs = job.photographs

    def write(self, number: int) -> int:
        """Compute and write a part, unless it is there; the number of its photographs.

        Raises CheckpointError for a model that is missing, damaged or another one, DataError for a list that
        cannot be read, OutputError.
        """
        file = self.job.part(number)
        if not file.exists():
            names = self.photographs.names(number)
            table = self._table(names)
            self.job.refuse_if_gone()
            write_rows(table, file)
        return self.job.rows_of(number)

    def _table(self, names: Sequence[str]) -> Any:
        photographs = [photograph(name, self.job.base) for name in names]
        sources = [each.source for each in photographs]
        task, predictor = self.job.task, self._predictor
        size, cores = self.means.batch_size, self.means.cores
        if task.what == "guesses":
            return guess_rows(
                names,
                sources,
                predictor.predict_files(photographs, top=task.top, batch_size=size, workers=cores),
                task.rules,
            )
        embeddings = predictor.embed_files(photographs, batch_size=size, workers=cores)
        return embedding_rows(
            names, sources, embeddings, width=predictor.backend.width, model=predictor.digest
        )

    @cached_property
    def _predictor(self) -> Predictor:
        task = self.job.task
        task.refuse_other_model()
        if self.means.cores is not None:
            torch.set_num_threads(self.means.cores)
        return Predictor.from_pretrained(
            task.model,
            device=self.means.device,
            source=task.source,
            precision=task.precision,
            rules=task.rules,
        )
