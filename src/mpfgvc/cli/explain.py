"""`mpfgvc explain`: a picture of what predictions rest on: the kept patches, and what each of them says."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mpfgvc.cli import output
from mpfgvc.cli.command import (
    Command,
    add_dataset_place,
    add_device,
    add_json,
    add_model,
    add_photos,
    check_positive,
    load_predictor,
)
from mpfgvc.errors import ConfigError, DataError, printable
from mpfgvc.progress import say

if TYPE_CHECKING:
    from mpfgvc.inference.explain import NamedImage
    from mpfgvc.inference.picture import TitledExplanation

ROWS, SHEET = 4, 60
"""Photographs that are drawn as rows, and on a contact sheet, at most."""


def _add_options(parser: ArgumentParser) -> None:
    add_model(parser)
    add_photos(parser, default="some test photographs of the run")
    parser.add_argument("-o", "--out", metavar="PNG", required=True, help="picture to write")
    add_json(parser)
    parser.add_argument("--top", type=int, default=3, help="guesses for each photograph (default: 3)")
    parser.add_argument(
        "--most", type=int, help=f"photographs in the picture at most (default: {SHEET}, or {ROWS} if none are named)"
    )
    parser.add_argument(
        "--against",
        metavar="CLASS",
        help="the class that the answer is compared with (default: the true class if the photograph lies in a folder "
        "of its name or is of the test split, and the answer is another; else the runner-up)",
    )
    parser.add_argument(
        "--nearest",
        type=int,
        default=3,
        help="training photographs of both classes that look most alike, in each row, if "
        "mpfgvc embed RUN was run; 0 shows none (default: 3)",
    )
    add_dataset_place(parser)
    add_device(parser)


def _run(options: Namespace) -> int:
    _check(options)
    from mpfgvc.inference.picture import contact_sheet, draw, save_picture

    named = _named_images(options)
    explained, unreadable = _explain(options, named)
    for line in unreadable:
        say(line)
    save_picture((draw if len(explained) <= ROWS else contact_sheet)(explained), options.out)
    if options.json:
        documents = [{"path": name, **explanation.to_dict()} for name, explanation in explained]
        output.write_json({"picture": options.out, "photographs": documents})
    else:
        output.write_line(f"picture     {printable(options.out)}, {len(explained)} photographs")
    return 2 if unreadable else 0


def _check(options: Namespace) -> None:
    check_positive(options, "top", *(["most"] if options.most is not None else []))
    if options.nearest < 0:
        raise ConfigError(f"--nearest must be at least 0, got {options.nearest}")
    if not options.out.lower().endswith(".png"):
        raise ConfigError(f"--out must end in .png, got {options.out}")


def _named_images(options: Namespace) -> list[NamedImage]:
    """The photographs with their titles and folders; says what is left out of those that were named."""
    from mpfgvc.data.listing import find_images
    from mpfgvc.inference.explain import NamedImage, named_test_images

    if not options.photos:
        return named_test_images(options.model, options.most or ROWS, root=options.root, manifest=options.manifest)
    found = find_images(options.photos, say)
    most = options.most or SHEET
    if len(found) > most:
        say(f"drawing the first {most} of {len(found)} photographs; --most draws more")
    return [NamedImage(str(path), path, path.absolute().parent.name) for path in found[:most]]


def _explain(options: Namespace, named: Sequence[NamedImage]) -> tuple[list[TitledExplanation], list[str]]:
    """The explanations, and a line for each photograph that cannot be read. Raises DataError if none can."""
    from mpfgvc.data.names import bird_name, look
    from mpfgvc.inference.explain import TrainingPhotos, explain

    predictor, photos = load_predictor(options), None
    if options.nearest:
        photos = TrainingPhotos.of(predictor, options.model, root=options.root, manifest=options.manifest)
    known = {look(name): name for name in predictor.classes}
    explained: list[TitledExplanation] = []
    unreadable: list[DataError] = []
    for title, image, truth in named:
        own = known.get(look(truth)) or known.get(look(bird_name(truth)))  # CUB's names, tidied
        against = options.against or own
        try:
            why = explain(predictor, image, top=options.top, against=against, photos=photos, nearest=options.nearest)
        except DataError as error:
            unreadable.append(error)
        else:
            explained.append((title, why))
    if unreadable and not explained:
        raise unreadable[0]
    return explained, [str(error) for error in unreadable]


COMMAND = Command(name="explain", add_options=_add_options, run=_run)
