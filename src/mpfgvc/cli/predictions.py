"""Predictions on standard output, each as soon as it is made: as a table, JSON, JSON lines or CSV; no torch.

`mpfgvc predict` and `mpfgvc-runtime predict` share it, and say at the end how many photographs were read.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from mpfgvc.cli import output
from mpfgvc.data.images import reason_only
from mpfgvc.data.listing import find_images
from mpfgvc.errors import DataError, printable
from mpfgvc.inference.answering import Answer, AnswerRules, Prediction
from mpfgvc.terms import CLASS, Engine

if TYPE_CHECKING:
    from mpfgvc.inference.predictor import Predictor

Write = Callable[[Prediction], None]


def add_photos(parser: ArgumentParser) -> None:
    """The photographs, the format and the number of guesses."""
    parser.add_argument("photos", metavar="PHOTO", nargs="+", help="files, folders or globs")
    formats = parser.add_mutually_exclusive_group()
    formats.add_argument("--json", action="store_true", help="print one JSON array")
    formats.add_argument("--jsonl", action="store_true", help="print one JSON object per line")
    formats.add_argument("--csv", action="store_true", help="print CSV: path, rank, label, probability, error")
    parser.add_argument("--top", type=int, default=5, help="guesses for each photograph (default: 5)")


def add_rules(parser: ArgumentParser) -> None:
    """What an answer must keep (inference/answering.py)."""
    rules = parser.add_argument_group(
        "answers that keep a promise", "they need a model that was calibrated (mpfgvc calibrate)"
    )
    rules.add_argument(
        "--abstain",
        metavar="SHARE",
        type=float,
        help="answer unsure where more than this share of such answers would be wrong, such as 0.05",
    )
    rules.add_argument(
        "--back-off",
        action="store_true",
        help="with --abstain: answer with the genus, or a higher group of the taxonomy, where that is sure",
    )
    rules.add_argument(
        "--set",
        metavar="SHARE",
        type=float,
        help="also the classes that hold the right one in this share of the photographs, such as 0.9",
    )
    rules.add_argument(
        "--within",
        metavar="NAME",
        action="append",
        default=[],
        help="only these classes: the name of a class or of a group, such as 'genus Larus', or a text file "
        "with a name on each line; may be repeated",
    )


def rules_of(options: Namespace) -> AnswerRules:
    """The rules that the options ask for. Raises ConfigError, DataError for a file without names."""
    within = [name for each in options.within for name in _names(each)]
    return AnswerRules(abstain=options.abstain, back_off=options.back_off, set=options.set, within=tuple(within))


def add_engine(parser: ArgumentParser, *, more: Sequence[str] = (), more_help: str = "") -> None:
    """`--engine` and `--threads`, for exported models; `more` are engines that run others."""
    parser.add_argument(
        "--engine",
        choices=(*get_args(Engine), *more),
        help="what runs an exported model; openvino is faster on CPUs with bf16, and a little less exact "
        f"(default: onnxruntime){more_help}",
    )
    parser.add_argument("--threads", type=int, help="threads of an exported model (default: one per core)")


def load_predictor(options: Namespace, rules: AnswerRules | None = None) -> Predictor:
    """The model that is named, ready to answer. Raises CheckpointError, and ConfigError for its options."""
    from mpfgvc.inference.predictor import Predictor

    names = ("device", "precision", "source", "engine", "threads")
    given = {name: getattr(options, name) for name in names if hasattr(options, name)}
    return Predictor.from_pretrained(options.model, rules=rules, **given)


def predict(options: Namespace, *, say: Callable[[str], None]) -> int:
    """Predict the photographs that are named, and write the guesses; the exit code."""
    rules, listing = rules_of(options), find_images(options.photos)
    predictor = load_predictor(options, rules)
    for note in predictor.answering.notes:
        say(note)
    total = broken = unsure = 0
    with writer_of(options) as write:
        for prediction in predictor.predict_files(listing.photographs, top=options.top, batch_size=options.batch_size):
            write(prediction)
            total += 1
            broken += bool(prediction.failure)
            unsure += prediction.answer is not None and prediction.answer.label is None
    for note in listing.ignored():
        say(note)
    say(f"{total - broken} of {total} photographs predicted in {predictor.backend.how}")
    if options.abstain is not None:
        say(f"{unsure} of {total - broken} answers are unsure")
    if broken:
        say(f"{broken} of {total} photographs cannot be read, for the reasons given; export them again")
    return 2 if broken else 0


def writer_of(options: Namespace) -> AbstractContextManager[Write]:
    """What writes a prediction in the format that was asked for."""
    if options.json:
        return _json()
    if options.jsonl:
        return _json_lines()
    return _csv(with_answer=options.abstain is not None, with_set=options.set is not None) if options.csv else _table()


@contextmanager
def _json() -> Iterator[Write]:
    with output.JsonArray() as array:
        yield lambda prediction: array.add(_document(prediction))


@contextmanager
def _json_lines() -> Iterator[Write]:
    yield lambda prediction: output.write_json_line(_document(prediction))


@contextmanager
def _csv(*, with_answer: bool, with_set: bool) -> Iterator[Write]:
    """A row for each guess; the answer and its level, and whether the guess is in the set, stand on each."""
    asked = [*(["answer", "level"] if with_answer else []), *(["in_set"] if with_set else [])]
    heading = [["path", "rank", "label", "probability", "error", *asked]]

    def write(prediction: Prediction) -> None:
        while heading:  # comes with the first row, so a refusal prints nothing
            output.write_csv_row(heading.pop())
        if prediction.failure:
            output.write_csv_row([prediction.path, "", "", "", _reason(prediction), *[""] * len(asked)])
        answer = prediction.answer
        for rank, guess in enumerate(prediction.guesses, start=1):
            row = [prediction.path, rank, guess.label, f"{guess.probability:.6f}", ""]
            if answer is not None and with_answer:
                row += ["" if answer.label is None else answer.label, answer.level if answer.label else ""]
            if answer is not None and with_set:
                row.append("yes" if guess.label in (answer.classes or ()) else "no")
            output.write_csv_row(row)

    yield write


@contextmanager
def _table() -> Iterator[Write]:
    """For people: each photograph on a line, its guesses below it."""

    def write(prediction: Prediction) -> None:
        rows = [f"  {guess.probability:.3f}  {guess.label}" for guess in prediction.guesses]
        if prediction.failure:
            rows = [f"  cannot be read: {_reason(prediction)}"]
        if prediction.answer is not None:
            rows = [*_answer_lines(prediction.answer), *rows]
        output.write("".join(f"{printable(line)}\n" for line in (str(prediction.path), *rows)))

    yield write


def _document(prediction: Prediction) -> dict[str, Any]:
    guesses = [{"label": guess.label, "probability": guess.probability} for guess in prediction.guesses]
    document: dict[str, Any] = {"path": str(prediction.path), "guesses": guesses}
    if prediction.answer is not None:
        document["answer"] = prediction.answer.label
        document["level"] = None if prediction.answer.label is None else prediction.answer.level
        if prediction.answer.classes is not None:
            document["set"] = list(prediction.answer.classes)
    return document | ({"error": _reason(prediction)} if prediction.failure else {})


def _answer_lines(answer: Answer) -> list[str]:
    """The answer and the set, as a table has them above the guesses."""
    label = "unsure" if answer.label is None else answer.label
    lines = [f"  answer: {label}" + ("" if answer.level == CLASS else f" ({answer.level})")]
    if answer.classes is not None:
        lines.append(f"  set of {len(answer.classes)}: {', '.join(answer.classes)}")
    return lines


def _names(word: str) -> list[str]:
    """The names on the lines of a text file, or the word itself."""
    path = Path(word)
    if path.suffix != ".txt":
        return [word]
    try:
        names = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text in UTF-8"
        raise DataError(f"cannot read {path}: {reason}; --within needs a text file of names") from None
    if not any(names):
        raise DataError(f"{path} holds no name; write one on each line")
    return [name for name in names if name and not name.startswith("#")]


def _reason(prediction: Prediction) -> str:
    """Why the photograph cannot be read, without its path, which is printed beside it."""
    return reason_only(prediction.failure, prediction.path)
