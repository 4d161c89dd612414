"""Guesses or embeddings of many photographs, in a folder that the same command goes on with after any stop.

    part-00000012.parquet    the rows of the photographs 12 * part_size and on: written whole, or not there
    _job.json                what is computed, with which model, about which photographs

A part that is there is done. So a job goes on after any kill, on one machine or on a cluster (ray_engine.py),
and no row comes twice. Readers of Parquet folders pass over names that begin with `_`. A row for each
photograph, in order, also for one that cannot be read:

    guesses      path, label and probability of the best guess, labels and probabilities of all guesses,
                 error; under rules also answer and level, or set
    embeddings   path, embedding, error

`error` is null, or says why the photograph cannot be read; then all but `path` is null. Bytes of a path that
are no UTF-8 are escaped. Probabilities and embeddings are float32. No torch until a part is computed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

from mpfgvc.data.images import reason_only
from mpfgvc.data.samples import Photograph
from mpfgvc.errors import CheckpointError, DataError, one_line
from mpfgvc.files import claim_folder, file_digest, make_folder, new_file, pyarrow_for, stored_digest, write_text
from mpfgvc.inference.answering import Answering, AnswerRules, ModelFacts, Prediction
from mpfgvc.inference.backends import check_options
from mpfgvc.inference.description import DESCRIPTION, HUB, WEIGHTS, ModelDescription, find_model_folder
from mpfgvc.inference.embeddings import ERROR, about_embeddings
from mpfgvc.inference.exported import ExportedBackend
from mpfgvc.inference.predictor import Embedded, Predictor
from mpfgvc.terms import Device, Engine, Precision, Source

JOB = "_job.json"
FORMAT = 1
PART_SIZE = 512
"""Photographs in a part."""
_WHAT = "the results of a job"
_WORDS = {"photographs": "other photographs", "model": "another model", "format": "another version of mpfgvc"}


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is computed about each photograph, with which model: where it is, and by its digest what it is."""

    what: Literal["guesses", "embeddings"]
    model: str
    digest: str = ""
    source: Source | None = None
    precision: Precision = "fp32"
    engine: Engine | None = None
    top: int = 5
    rules: AnswerRules = field(default_factory=AnswerRules)
    device: Device = "auto"
    batch_size: int = 32

    def begun(self) -> tuple[Self, tuple[str, ...]]:
        """This task with the model as it is now, and lines for people about what its rules cannot promise.

        Raises CheckpointError for a model that is missing, ConfigError for rules that it cannot keep.
        """
        check_options(self.model, engine=self.engine, precision=self.precision)
        answering = Answering(_facts_of(self.model), self.rules, source=self.source)
        model = self.model if self.model.startswith(HUB) else str(Path(self.model).absolute())
        return replace(self, model=model, digest=_digest_of(model), source=answering.source), answering.notes

    def predictor(self, cores: int | None) -> Predictor:
        """The model. Raises CheckpointError if the one that is there, on this machine, is another one."""
        if _digest_of(self.model) != self.digest:
            rule = "is not the model that the job began with"
            raise CheckpointError(f"{self.model} {rule}; it was changed, or differs between machines")
        return Predictor.from_pretrained(
            self.model,
            device=self.device,
            source=self.source,
            precision=self.precision,
            engine=self.engine,
            threads=cores if self.model.endswith(".onnx") else None,
            rules=self.rules,
        )

    def to_dict(self) -> dict[str, Any]:
        """What must be the same when a job goes on."""
        same = {"what": self.what, "model": self.digest, "precision": self.precision, "engine": self.engine}
        if self.what == "embeddings":
            return same
        rules = {name: list(rule) if isinstance(rule, tuple) else rule for name, rule in vars(self.rules).items()}
        return same | {"source": self.source, "top": self.top, **rules}


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job in its folder; `names` are its photographs, whose paths start from `base`."""

    folder: Path
    base: Path
    task: Task
    part_size: int
    names: tuple[str, ...]

    @property
    def parts(self) -> int:
        """How many parts it has."""
        return -(-len(self.names) // self.part_size)

    def part(self, index: int) -> Path:
        """The file of a part."""
        return self.folder / f"part-{index:08d}.parquet"

    def names_of(self, index: int) -> tuple[str, ...]:
        """The names of the photographs of a part."""
        return self.names[index * self.part_size : (index + 1) * self.part_size]

    def missing(self) -> list[int]:
        """The parts that are not there, in order."""
        there = {file.name for file in self.folder.iterdir()}
        return [index for index in range(self.parts) if self.part(index).name not in there]

    def check_there(self) -> None:
        """Raise CheckpointError if the folder is that of another job by now: who is late must not write."""
        if _read(self.folder) != self.to_dict():
            raise CheckpointError(f"{self.folder} is not the folder of this job any more; it was begun anew")

    def to_dict(self) -> dict[str, Any]:
        """What `_job.json` holds."""
        photographs = [str(self.base / name) for name in self.names]
        return {"format": FORMAT, **self.task.to_dict(), "part_size": self.part_size, "photographs": photographs}


class PartWorker:
    """Computes parts of one job, on one machine or in an actor of a cluster. The model is loaded once.

    `cores` None leaves all of the machine's to it.
    """

    def __init__(self, job: Job, cores: int | None = None) -> None:
        self.job, self.cores = job, cores

    def write(self, index: int) -> int:
        """Compute and write a part, unless it is there; the number of its photographs.

        Raises CheckpointError for a model that is missing, damaged or another one, OutputError.
        """
        file, names = self.job.part(index), self.job.names_of(index)
        if not file.exists():
            table = self._table(names, [Photograph(path=self.job.base / name) for name in names])
            self.job.check_there()
            with new_file(file) as part:
                pyarrow_for(_WHAT).parquet.write_table(table, part, write_page_checksum=True)
        return len(names)

    def _table(self, names: Sequence[str], photographs: Sequence[Photograph]) -> Any:
        task, predictor, cores = self.job.task, self._predictor, self.cores
        if task.what == "guesses":
            predictions = predictor.predict_files(photographs, top=task.top, batch_size=task.batch_size, workers=cores)
            return _guess_table(names, photographs, predictions, task.rules)
        embedded = predictor.embed_files(photographs, batch_size=task.batch_size, workers=cores)
        return _embedding_table(names, embedded, width=predictor.backend.width, model=predictor.digest)

    @cached_property
    def _predictor(self) -> Predictor:
        predictor = self.job.task.predictor(self.cores)
        if self.cores is not None and not self.job.task.model.endswith(".onnx"):
            import torch

            torch.set_num_threads(self.cores)
        return predictor


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What the parts of a job hold: photographs, those that cannot be read, and answers that are unsure."""

    count: int
    unreadable: int
    unsure: int


def summary(job: Job) -> Summary:
    """What the parts hold. Raises DataError naming one that is damaged."""
    unreadable = unanswered = 0
    for index in range(job.parts):
        file, rows = job.part(index), len(job.names_of(index))
        try:
            table = pyarrow_for(_WHAT).parquet.ParquetFile(file, page_checksum_verification=True).read()
        except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
            hint = "delete it and run the command again"
            raise DataError(f"cannot read {file}: {one_line(error)}; {hint}") from None
        if len(table) != rows:
            raise DataError(f"{file} has not {rows} rows; delete it and run the command again")
        broken = rows - table[ERROR].null_count
        unreadable += broken
        unanswered += table["answer"].null_count if "answer" in table.column_names else broken
    return Summary(count=len(job.names), unreadable=unreadable, unsure=unanswered - unreadable)


@contextmanager
def open_job(folder: Path, task: Task, names: Iterable[str], *, part_size: int | None = None) -> Iterator[Job]:
    """The job of a folder, which is this process's within the block: begun, or gone on with.

    `names` are its photographs. Raises DataError for none, CheckpointError, in one line, for a folder that
    holds something else, that another process works in, or a job of another model, other photographs or
    options.
    """
    _check_strangers(folder)
    chosen = tuple(names)
    if not chosen:
        raise DataError("there are no photographs; name files, folders, globs or tables")
    is_new = not os.path.lexists(folder)
    make_folder(folder)
    try:
        with claim_folder(folder):
            begun = _read(folder)
            size = part_size or (PART_SIZE if begun is None else begun["part_size"])
            job = Job(folder=folder.absolute(), base=Path.cwd(), task=task, part_size=size, names=chosen)
            if begun is None:
                write_text(folder / JOB, json.dumps(job.to_dict(), indent=1) + "\n")
            else:
                _check_same(folder, begun, job.to_dict())
            yield job
    finally:
        if is_new:
            with suppress(OSError):  # a folder that is still empty after a refusal
                folder.rmdir()


def _facts_of(model: str) -> ModelFacts:
    if model.endswith(".onnx"):
        return ExportedBackend(model).facts
    folder = find_model_folder(model)
    about = ModelDescription.read(folder / DESCRIPTION)
    return about.facts(str(folder), digest="", prediction=about.model.prediction)


def _digest_of(model: str) -> str:
    """Of the weights and of the description, which holds names and calibration; or of the .onnx file."""
    try:
        if model.endswith(".onnx"):
            return file_digest(Path(model))
        folder = find_model_folder(model)
        weights = folder / WEIGHTS
        parts = [stored_digest(weights) or file_digest(weights), file_digest(folder / DESCRIPTION)]
    except OSError as error:
        raise CheckpointError(f"cannot read the model {model}: {error.strerror}; restore it") from None
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _check_strangers(folder: Path) -> None:
    """Refuse a folder that holds anything but a job, or the beginning of one."""
    if not folder.is_dir() or (folder / JOB).exists():
        return
    strangers = [file.name for file in folder.iterdir() if not file.name.startswith((".", "_"))]
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
    if (
        not isinstance(document, dict)
        or type(document.get("part_size")) is not int
        or not isinstance(document.get("photographs"), list)
    ):
        raise DataError(f"{folder / JOB} is damaged; choose another --out, or delete {folder} to begin anew")
    return document


def _check_same(folder: Path, begun: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Refuse to go on with a job that is about something else; says the first difference."""
    for name, value in wanted.items():
        before: Any = begun.get(name)
        if before == value:
            continue
        what = _WORDS.get(name, f"{name} {json.dumps(before):.80}, got {json.dumps(value):.80}")
        if name == "photographs" and len(before) != len(value):
            what = f"{len(before)} photographs, now there are {len(value)}"
        hint = "give the same again, or choose another --out"
        raise CheckpointError(f"{folder} holds a job of {what}; {hint}")


def _guess_table(
    names: Sequence[str], photographs: Sequence[Photograph], predictions: Iterable[Prediction], rules: AnswerRules
) -> Any:
    arrow = pyarrow_for(_WHAT)
    text, number = arrow.string(), arrow.float32()
    fields = {"path": text, "label": text, "probability": number}
    fields |= {"labels": arrow.list_(text), "probabilities": arrow.list_(number), ERROR: text}
    fields |= {"answer": text, "level": text} if rules.abstain is not None else {}
    fields |= {"set": arrow.list_(text)} if rules.set is not None else {}
    rows = [_guess_row(*row) for row in zip(names, photographs, predictions, strict=True)]
    return arrow.table({name: [row.get(name) for row in rows] for name in fields}, schema=arrow.schema(fields))


def _guess_row(name: str, photo: Photograph, prediction: Prediction) -> dict[str, Any]:
    row: dict[str, Any] = {"path": _text(name), ERROR: _error(photo, prediction.failure)}
    if prediction.failure:
        return row
    row |= {"label": prediction.guesses[0].label, "probability": prediction.guesses[0].probability}
    row |= {"labels": [guess.label for guess in prediction.guesses]}
    row |= {"probabilities": [guess.probability for guess in prediction.guesses]}
    if (answer := prediction.answer) is not None:
        row |= {"answer": answer.label, "level": answer.level if answer.label else None, "set": answer.classes}
    return row


def _embedding_table(names: Sequence[str], embedded: Iterable[Embedded], *, width: int, model: str) -> Any:
    arrow = pyarrow_for(_WHAT)
    fields = {"path": arrow.string(), "embedding": arrow.list_(arrow.float32(), width), ERROR: arrow.string()}
    rows = list(embedded)
    columns = {
        "path": [_text(name) for name in names],
        "embedding": [row.embedding for row in rows],
        ERROR: [_error(row.photograph, row.failure) for row in rows],
    }
    return arrow.table(columns, schema=arrow.schema(fields, metadata=about_embeddings(width=width, model=model)))


def _error(photo: Photograph, failure: str) -> str | None:
    return _text(reason_only(failure, photo.path)) if failure else None


def _text(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()
