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
from mpfgvc.data.remote import Remote
from mpfgvc.data.tars import Packed
from mpfgvc.files import new_file, pyarrow_for
from mpfgvc.inference.answering import AnswerRules, Prediction
from mpfgvc.inference.embedding_file import ERROR, about_embeddings

if TYPE_CHECKING:
    from mpfgvc.inference.predictor import Embedded

PATH, ANSWER = "path", "answer"
Source = Path | Packed | Remote
_WHAT = "the results of a job"


def guess_rows(
    names: Sequence[str], sources: Sequence[Source], answers: Iterable[Prediction], rules: AnswerRules
) -> Any:
    """The table of some photographs and the guesses for them."""
    arrow = pyarrow_for(_WHAT)
    text, number = arrow.string(), arrow.float32()
    fields = {PATH: text, "label": text, "probability": number}
    fields |= {"labels": arrow.list_(text), "probabilities": arrow.list_(number), ERROR: text}
    fields |= {ANSWER: text, "level": text} if rules.abstain is not None else {}
    fields |= {"set": arrow.list_(text)} if rules.set is not None else {}
    rows = [_guesses(*each) for each in zip(names, sources, answers, strict=True)]
    return arrow.table(
        {name: [row.get(name) for row in rows] for name in fields}, schema=arrow.schema(fields)
    )


def embedding_rows(
    names: Sequence[str], sources: Sequence[Source], answers: Iterable[Embedded], *, width: int, model: str
) -> Any:
    """The table of some photographs and their embeddings; `model` is the digest of the weights."""
    arrow = pyarrow_for(_WHAT)
    fields = {PATH: arrow.string(), "embedding": arrow.list_(arrow.float32(), width), ERROR: arrow.string()}
    schema = arrow.schema(fields, metadata=about_embeddings(width=width, model=model))
    rows = list(zip(names, sources, answers, strict=True))
    columns = {
        PATH: [_text(name) for name, _, _ in rows],
        "embedding": [each.embedding for _, _, each in rows],
        ERROR: [_error(source, each.failure) for _, source, each in rows],
    }
    return arrow.table(columns, schema=schema)


def write_rows(table: Any, file: Path) -> None:
    """Write a table, whole or not at all. Raises OutputError."""
    with new_file(file) as part:
        pyarrow_for(_WHAT).parquet.write_table(table, part)


def _guesses(name: str, source: Source, each: Prediction) -> dict[str, Any]:
    row: dict[str, Any] = {PATH: _text(name), ERROR: _error(source, each.failure)}
    if each.failure:
        return row
    guesses, answer = each.guesses, each.answer
    row |= {"label": guesses[0].label, "probability": guesses[0].probability}
    row |= {"labels": [guess.label for guess in guesses]}
    row |= {"probabilities": [guess.probability for guess in guesses]}
    if answer is not None:
        row |= {ANSWER: answer.label, "level": answer.level if answer.label else None, "set": answer.classes}
    return row


def _error(source: Source, failure: str) -> str | None:
    return _text(reason_only(failure, source)) if failure else None


def _text(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()
