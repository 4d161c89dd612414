"""`mpfgvc predict`: the classes of photographs, written as they are predicted.

Each photograph is written as soon as it has its guesses, so memory does not grow with their number,
and the output is whole after Ctrl-C. A photograph that cannot be read is written with the
reason, in its place in the order; their number is said at the end, and the exit code is 2.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, get_args

from mpfgvc.cli import output
from mpfgvc.cli.command import Command, add_device, add_model, check_positive
from mpfgvc.config import Source
from mpfgvc.inference.guess import Prediction
from mpfgvc.progress import printable, say

Write = Callable[[Prediction], None]


def _add_options(parser: ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument("photos", metavar="PHOTO", nargs="+", help="files, folders or globs")
    formats = parser.add_mutually_exclusive_group()
    formats.add_argument("--json", action="store_true", help="print one JSON array")
    formats.add_argument("--jsonl", action="store_true", help="print one JSON object per line")
    formats.add_argument(
        "--csv", action="store_true", help="print CSV: path, rank, label, probability, error"
    )
    parser.add_argument("--top", type=int, default=5, help="guesses for each photograph (default: 5)")
    parser.add_argument(
        "--source",
        choices=get_args(Source),
        help="classifier to use (default: what the model answers with, fusion unless model.prediction named "
        "another)",
    )
    parser.add_argument("--batch-size", type=int, default=32, help="photographs at a time (default: 32)")
    add_device(parser)


def _run(options: Namespace) -> int:
    check_positive(options, "top", "batch-size")
    from mpfgvc.data.image_files import find_images
    from mpfgvc.inference.predictor import Predictor

    listing = find_images(options.photos)
    predictor = Predictor.from_pretrained(
        options.model, device=options.device, source=options.source, precision=options.precision
    )
    total = broken = 0
    with _writer(options) as write:
        for prediction in predictor.predict_files(
            listing.photographs, top=options.top, batch_size=options.batch_size
        ):
            write(prediction)
            total += 1
            broken += bool(prediction.failure)
    for note in listing.left_out():
        say(note)
    say(f"{total - broken} of {total} photographs predicted in {options.precision}")
    if broken:
        say(f"{broken} of {total} photographs cannot be read, for the reasons given; export them again")
    return 2 if broken else 0


def _writer(options: Namespace) -> AbstractContextManager[Write]:
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
    from mpfgvc.data.images import reason_only

    return reason_only(prediction.failure, prediction.path)


COMMAND = Command(
    name="predict",
    summary="guess the classes of photographs",
    add_options=_add_options,
    run=_run,
    interrupted="interrupted; what was written is whole",
)
