"""`mpfgvc predict`: the classes of photographs, written as they are predicted; `mpfgvc-runtime predict`, too.

Each photograph is written as soon as it has its guesses, so memory does not grow with their number,
and the output is whole after Ctrl-C. A photograph that cannot be read is written with the
reason, in its turn; their number is said at the end, and the exit code is 2.

With `-o` the guesses go into a folder of Parquet files, by this machine or by a cluster (many.py).
"""

from __future__ import annotations

import os
import re
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from mpfgvc.cli import output
from mpfgvc.cli.command import Command, add_device, add_engine, add_model, add_photos, check_positive, load_predictor
from mpfgvc.cli.many import add_many, check_options_of_many, run_many
from mpfgvc.data.images import reason_only
from mpfgvc.data.listing import find_images
from mpfgvc.errors import ConfigError, DataError, printable
from mpfgvc.files import new_folder
from mpfgvc.inference.answering import Answer, AnswerRules, Prediction
from mpfgvc.inference.picture import Cell, save_picture, sheet, shortened
from mpfgvc.progress import say
from mpfgvc.terms import CLASS, RAY, Source

if TYPE_CHECKING:
    from PIL.Image import Image

    from mpfgvc.inference.predictor import Predictor

Write = Callable[[Prediction], None]
_LIST = ".txt"
"""The end of the name of a checklist."""
_UNSURE, _UNREADABLE = "unsure", "cannot be read"
_MOST_UNSURE = 60
"""Photographs on the contact sheet."""


def _add_options(parser: ArgumentParser) -> None:
    add_model(parser)
    add_photos(parser)
    formats = parser.add_mutually_exclusive_group()
    formats.add_argument("--json", action="store_true", help="print one JSON array")
    formats.add_argument("--jsonl", action="store_true", help="print one JSON object per line")
    formats.add_argument("--csv", action="store_true", help="print CSV: path, rank, label, probability, error")
    parser.add_argument("--top", type=int, default=5, help="guesses for each photograph (default: 5)")
    parser.add_argument(
        "--source",
        choices=get_args(Source),
        help="classifier to use (default: what the model answers with, fusion unless model.prediction named another)",
    )
    parser.add_argument("--batch-size", type=int, default=32, help="photographs at a time (default: 32)")
    parser.add_argument(
        "-o", "--out", metavar="FOLDER", help="write a folder of Parquet files, a row for each photograph"
    )
    parser.add_argument(
        "--sort",
        action="store_true",
        help="with -o: a folder for each answer instead, with links to its photographs; with --abstain also one of "
        "those that are unsure, and a contact sheet of them",
    )
    add_engine(parser, more=(RAY,), more_help="; ray runs a trained model on a cluster, with -o")
    add_device(parser)
    _add_rules(parser)
    add_many(parser)


def _add_rules(parser: ArgumentParser) -> None:
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
        "with a name on each line, some of which the model may not know; may be repeated",
    )


def _run(options: Namespace) -> int:
    check_positive(options, "top", "batch-size")
    check_options_of_many(options)
    rules = AnswerRules(
        abstain=options.abstain,
        back_off=options.back_off,
        set=options.set,
        within=tuple(word for word in options.within if not word.endswith(_LIST)),
        checklist=tuple(name for word in options.within if word.endswith(_LIST) for name in _names(Path(word))),
    )
    if options.sort:
        return _sort(options, rules)
    return _write_folder(options, rules) if options.out else _print(options, rules)


def _write_folder(options: Namespace, rules: AnswerRules) -> int:
    if options.jsonl or options.csv:
        raise ConfigError("--jsonl and --csv print guesses, but -o writes them as Parquet; leave one out")
    if options.threads is not None:
        raise ConfigError("--threads is not for -o, which takes all cores; leave it out")
    from mpfgvc.scale.jobs import Task

    task = Task(
        what="guesses",
        model=options.model,
        source=options.source,
        precision=options.precision,
        engine=None if options.engine == RAY else options.engine,
        top=options.top,
        rules=rules,
        device=options.device,
        batch_size=options.batch_size,
    )
    return run_many(options, task)


def _print(options: Namespace, rules: AnswerRules) -> int:
    notes: list[str] = []
    photographs = find_images(options.photos, notes.append)
    predictor = load_predictor(options, rules)
    for note in predictor.answering.notes:
        say(note)
    total = broken = unsure = 0
    top = len(predictor.classes) if options.csv and options.set is not None else options.top  # a set is written whole
    with _writer(options) as write:
        for prediction in predictor.predict_files(photographs, top=top, batch_size=options.batch_size):
            write(prediction)
            total += 1
            broken += bool(prediction.failure)
            unsure += prediction.answer is not None and prediction.answer.label is None
    for note in notes:
        say(note)
    say(f"{total - broken} of {total} photographs predicted in {predictor.backend.how}")
    if options.abstain is not None:
        say(f"{unsure} of {total - broken} answers are unsure")
    if broken:
        say(f"{broken} of {total} photographs cannot be read, for the reasons given; export them again")
    return 2 if broken else 0


def _sort(options: Namespace, rules: AnswerRules) -> int:
    """Link the photographs into folders by their answers; nothing is there before all are."""
    if not options.out or options.jsonl or options.csv or options.engine == RAY or options.part_size is not None:
        raise ConfigError("--sort needs -o FOLDER, and neither --jsonl, --csv, --part-size nor --engine ray")
    folder = Path(options.out)
    if os.path.lexists(folder) and not (folder.is_dir() and not any(folder.iterdir())):
        raise ConfigError(f"--sort writes into a new folder, but {folder} is there; choose another --out")
    photographs, predictor = find_images(options.photos, say), load_predictor(options, rules)
    for note in predictor.answering.notes:
        say(note)
    counts: Counter[str] = Counter()
    unsure: list[Prediction] = []
    with new_folder(folder) as part:
        for prediction in predictor.predict_files(photographs, batch_size=options.batch_size):
            name = _UNREADABLE
            if not prediction.failure:
                answer = prediction.answer
                label = prediction.guesses[0].label if answer is None or rules.abstain is None else answer.label
                name = _UNSURE if label is None else re.sub(r"[/\\\0]|^\.+", "_", label)
                unsure += [prediction] if label is None else []
            _link(prediction.path, part / name)
            counts[name] += 1
        if unsure and find_spec("matplotlib") is None:
            say("the contact sheet of the unsure needs one more package: pip install matplotlib")
        elif unsure:
            save_picture(_sheet(predictor, unsure[:_MOST_UNSURE]), part / f"{_UNSURE}.png")
    broken = counts[_UNREADABLE]
    if options.json:
        output.write_json({"folder": str(folder), "count": counts.total(), "folders": dict(counts)})
    else:
        output.write_line(
            f"sorted      {printable(str(folder))}, {counts.total()} photographs in {len(counts)} folders"
        )
    say(f"{counts[_UNSURE]} of {counts.total()} answers are unsure, {broken} photographs cannot be read")
    return 2 if broken else 0


def _link(photograph: Path, folder: Path) -> None:
    """A link to a photograph in a folder; of equal names the later ones get a number in front."""
    if not photograph.is_file():
        raise ConfigError(f"--sort makes links to files, but {photograph} is none; unpack it first")
    folder.mkdir(exist_ok=True)
    link, number = folder / photograph.name, 1
    while os.path.lexists(link):
        link, number = folder / f"{number + 1}-{photograph.name}", number + 1
    link.symlink_to(photograph.absolute())


def _sheet(predictor: Predictor, unsure: Sequence[Prediction]) -> Image:
    """The photographs whose answers are unsure, with their three best guesses."""
    cells = []
    for prediction in unsure:
        guesses = "\n".join(
            f"{shortened(guess.label, 34)} {100 * guess.probability:.0f} %" for guess in prediction.guesses[:3]
        )
        cells.append(
            Cell([predictor.view(predictor.open(prediction.path))], shortened(prediction.path.name, 40), guesses)
        )
    return sheet(cells, columns=4)


@contextmanager
def _writer(options: Namespace) -> Iterator[Write]:
    """What writes a prediction in the format that was asked for."""
    if options.json:
        with output.JsonArray() as array:
            yield lambda prediction: array.add(_document(prediction))
    elif options.jsonl:
        yield lambda prediction: output.write_json_line(_document(prediction))
    elif options.csv:
        yield _csv(options)
    else:
        yield _write_lines


def _csv(options: Namespace) -> Write:
    """A row for each guess, and for every class of the set; the answer and its level stand on each."""
    asked = [*(["answer", "level"] if options.abstain is not None else []), *(["in_set"] if options.set else [])]
    heading = [["path", "rank", "label", "probability", "error", *asked]]

    def write(prediction: Prediction) -> None:
        while heading:  # comes with the first row, so a refusal prints nothing
            output.write_csv_row(heading.pop())
        if prediction.failure:
            output.write_csv_row([str(prediction.path), "", "", "", _reason(prediction), *[""] * len(asked)])
        answer, path = prediction.answer or Answer(label=None), str(prediction.path)
        classes = answer.classes or ()
        cells = [answer.label or "", answer.level if answer.label else ""] if options.abstain is not None else []
        for rank, guess in enumerate(prediction.guesses[: max(options.top, len(classes))], start=1):
            in_set = ["yes" if guess.label in classes else "no"] if options.set else []
            output.write_csv_row([path, rank, guess.label, f"{guess.probability:.6f}", "", *cells, *in_set])

    return write


def _write_lines(prediction: Prediction) -> None:
    """For people: the photograph on a line, its answer and its guesses below it."""
    lines = [str(prediction.path)]
    if (answer := prediction.answer) is not None:
        label = "unsure" if answer.label is None else answer.label
        lines.append(f"  answer: {label}" + ("" if answer.level == CLASS else f" ({answer.level})"))
        if answer.classes is not None:
            lines.append(f"  set of {len(answer.classes)}: {', '.join(answer.classes)}")
    if prediction.failure:
        lines.append(f"  cannot be read: {_reason(prediction)}")
    lines += [f"  {guess.probability:.3f}  {guess.label}" for guess in prediction.guesses]
    output.write("".join(f"{printable(line)}\n" for line in lines))


def _document(prediction: Prediction) -> dict[str, Any]:
    guesses = [{"label": guess.label, "probability": guess.probability} for guess in prediction.guesses]
    document: dict[str, Any] = {"path": str(prediction.path), "guesses": guesses}
    if prediction.answer is not None:
        document["answer"] = prediction.answer.label
        document["level"] = None if prediction.answer.label is None else prediction.answer.level
        if prediction.answer.classes is not None:
            document["set"] = list(prediction.answer.classes)
    return document | ({"error": _reason(prediction)} if prediction.failure else {})


def _names(path: Path) -> list[str]:
    """The names on the lines of a text file."""
    try:
        names = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text in UTF-8"
        raise DataError(f"cannot read {path}: {reason}; --within needs a text file of names") from None
    names = [name for name in names if name and not name.startswith("#")]
    if not names:
        raise DataError(f"{path} holds no name; write one on each line")
    return names


def _reason(prediction: Prediction) -> str:
    """Why the photograph cannot be read, without its path, which is printed beside it."""
    return reason_only(prediction.failure, prediction.path)


COMMAND = Command(
    name="predict", add_options=_add_options, run=_run, interrupted="interrupted; what was written is whole"
)
