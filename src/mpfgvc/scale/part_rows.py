"""The rows of a part as Parquet: one for each photograph, in order, also for one that cannot be read.

    guesses      path, label and probability of the best guess, labels and probabilities of all guesses,
                 error; under rules also answer and level, or set
    embeddings   path, embedding, error

`error` is null, or says why the photograph cannot be read; then all but `path` is null. Bytes of a path that
are no UTF-8 are escaped. Probabilities and embeddings are float32.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpfgvc.data.images import reason_only
from mpfgvc.inference.answering import Answered, AnswerRules
from mpfgvc.inference.embedding_file import ERROR, about_embeddings
from mpfgvc.storage.parquet import parquet_for, pyarrow_for
from mpfgvc.storage.whole_files import new_file

if TYPE_CHECKING:
    from torch import Tensor

    from mpfgvc.inference.file_stream import FileAnswer

PATH, ANSWER = "path", "answer"
_WHAT = "the results of a job"


def guess_rows(names: Sequence[str], answers: Iterable[FileAnswer[Answered]], rules: AnswerRules) -> Any:
    """The table of some photographs and the guesses for them."""
    arrow = pyarrow_for(_WHAT)
    text, number = arrow.string(), arrow.float32()
    fields = {PATH: text, "label": text, "probability": number}
    fields |= {"labels": arrow.list_(text), "probabilities": arrow.list_(number), ERROR: text}
    fields |= {ANSWER: text, "level": text} if rules.abstain is not None else {}
    fields |= {"set": arrow.list_(text)} if rules.set is not None else {}
    rows = [_guesses(*each) for each in zip(names, answers, strict=True)]
    return arrow.table(
        {name: [row.get(name) for row in rows] for name in fields}, schema=arrow.schema(fields)
    )


def embedding_rows(
    names: Sequence[str], answers: Iterable[FileAnswer[Tensor]], *, width: int, model: str
) -> Any:
    """The table of some photographs and their embeddings; `model` is the digest of the weights."""
    arrow = pyarrow_for(_WHAT)
    fields = {PATH: arrow.string(), "embedding": arrow.list_(arrow.float32(), width), ERROR: arrow.string()}
    schema = arrow.schema(fields, metadata=about_embeddings(width=width, model=model))
    rows = list(zip(names, answers, strict=True))
    columns = {
        PATH: [_text(name) for name, _ in rows],
        "embedding": [None if each.answer is None else each.answer.numpy() for _, each in rows],
        ERROR: [_error(each) for _, each in rows],
    }
    return arrow.table(columns, schema=schema)


def write_rows(table: Any, file: Path) -> None:
    """Write a table, whole or not at all. Raises OutputError."""
    with new_file(file) as part:
        parquet_for(_WHAT).write_table(table, part)


def _guesses(name: str, each: FileAnswer[Answered]) -> dict[str, Any]:
    row: dict[str, Any] = {PATH: _text(name), ERROR: _error(each)}
    if each.answer is None:
        return row
    guesses, answer = each.answer
    row |= {"label": guesses[0].label, "probability": guesses[0].probability}
    row |= {"labels": [guess.label for guess in guesses]}
    row |= {"probabilities": [guess.probability for guess in guesses]}
    if answer is not None:
        row |= {ANSWER: answer.label, "level": answer.level if answer.label else None, "set": answer.classes}
    return row


def _error(each: FileAnswer[Any]) -> str | None:
    return _text(reason_only(each.failure, each.photograph.source)) if each.failure else None


def _text(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()
