"""Predictions on standard output, each as soon as it is made: as a table, JSON, JSON lines or CSV; no torch.

`mpfgvc predict` and `mpfgvc-runtime predict` share it, and say at the end how many photographs were read.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, get_args

from ..inference.guess import Prediction
from ..plain_text import printable
from ..terms import Engine
from . import output

Write = Callable[[Prediction], None]


def add_photos(parser: ArgumentParser) -> None:
    """The photographs, the format and the number of guesses."""
    parser.add_argument("photos", metavar="PHOTO", nargs="+", help="files, folders or globs")
    formats = parser.add_mutually_exclusive_group()
    formats.add_argument("--json", action="store_true", help="print one JSON array")
    formats.add_argument("--jsonl", action="store_true", help="print one JSON object per line")
    formats.add_argument(
        "--csv", action="store_true", help="print CSV: path, rank, label, probability, error"
    )
    parser.add_argument("--top", type=int, default=5, help="guesses for each photograph (default: 5)")


def add_engine(parser: ArgumentParser) -> None:
    """`--engine` and `--threads`, for exported models."""
    parser.add_argument(
        "--engine",
        choices=get_args(Engine),
        help="what runs an exported model; openvino is faster on CPUs with bf16, and a little less exact "
        "(default: onnxruntime)",
    )
    parser.add_argument("--threads", type=int, help="threads of an exported model (default: one per core)")


def write_predictions(
    predictions: Iterable[Prediction],
    options: Namespace,
    *,
    say: Callable[[str], None],
    left_out: Iterable[str],
    how: str,
) -> int:
    """Write each prediction as it comes, then say what there was; the exit code.

    `left_out` are lines about files that were not taken, `how` is the precision or the model's format.
    """
    total = broken = 0
    with writer_of(options) as write:
        for prediction in predictions:
            write(prediction)
            total += 1
            broken += bool(prediction.failure)
    for note in left_out:
        say(note)
    say(f"{total - broken} of {total} photographs predicted in {how}")
    if broken:
        say(f"{broken} of {total} photographs cannot be read, for the reasons given; export them again")
    return 2 if broken else 0


def writer_of(options: Namespace) -> AbstractContextManager[Write]:
    """What writes a prediction in the format that was asked for."""
    if options.json:
        return _json()
    if options.jsonl:
        return _json_lines()
    return _csv() if options.csv else _table()


@contextmanager
def _json() -> Iterator[Write]:
    with output.JsonArray() as array:
        yield lambda prediction: array.add(_document(prediction))


@contextmanager
def _json_lines() -> Iterator[Write]:
    yield lambda prediction: output.write_json_line(_document(prediction))


@contextmanager
def _csv() -> Iterator[Write]:
    heading = [["path", "rank", "label", "probability", "error"]]

    def write(prediction: Prediction) -> None:
        while heading:  # comes with the first row, so a refusal prints nothing
            output.write_csv_row(heading.pop())
        if prediction.failure:
            output.write_csv_row([prediction.path, "", "", "", _reason(prediction)])
        for rank, guess in enumerate(prediction.guesses, start=1):
            output.write_csv_row([prediction.path, rank, guess.label, f"{guess.probability:.6f}", ""])

    yield write


@contextmanager
def _table() -> Iterator[Write]:
    """For people: each photograph on a line, its guesses below it."""

    def write(prediction: Prediction) -> None:
        rows = [f"  {guess.probability:.3f}  {guess.label}" for guess in prediction.guesses]
        if prediction.failure:
            rows = [f"  cannot be read: {_reason(prediction)}"]
        output.write("".join(f"{printable(line)}\n" for line in (str(prediction.path), *rows)))

    yield write


def _document(prediction: Prediction) -> dict[str, Any]:
    guesses = [{"label": guess.label, "probability": guess.probability} for guess in prediction.guesses]
    document: dict[str, Any] = {"path": str(prediction.path), "guesses": guesses}
    return document | ({"error": _reason(prediction)} if prediction.failure else {})


def _reason(prediction: Prediction) -> str:
    """Why the photograph cannot be read, without its path, which is printed beside it."""
    from ..data.images import reason_only

    return reason_only(prediction.failure, prediction.path)
