"""`mpfgvc explain`: a picture of what predictions rest on: the patches that were kept."""

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
    check_positive,
)
from mpfgvc.errors import ConfigError
from mpfgvc.progress import printable

if TYPE_CHECKING:
    from pathlib import Path

    from PIL.Image import Image


def _add_options(parser: ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument(
        "photos",
        metavar="PHOTO",
        nargs="*",
        help="files, folders or globs (default: some test photographs of the run)",
    )
    parser.add_argument("-o", "--out", metavar="PNG", required=True, help="picture to write")
    add_json(parser)
    parser.add_argument("--top", type=int, default=3, help="guesses for each photograph (default: 3)")
    parser.add_argument("--most", type=int, default=4, help="photographs in the picture at most (default: 4)")
    add_dataset_place(parser)
    add_device(parser)


def _run(options: Namespace) -> None:
    check_positive(options, "top", "most")
    if not options.out.lower().endswith(".png"):
        raise ConfigError(f"--out must end in .png, got {options.out}")
    from mpfgvc.data.image_files import find_images
    from mpfgvc.inference.explain import explain, named_test_images
    from mpfgvc.inference.explanation_picture import save_picture
    from mpfgvc.inference.predictor import Predictor

    images: Sequence[tuple[str, Path | Image]]
    if options.photos:
        images = [(str(path), path) for path in find_images(options.photos).photographs[: options.most]]
    else:
        images = named_test_images(options.model, options.most, root=options.root, manifest=options.manifest)
    predictor = Predictor.from_pretrained(options.model, device=options.device, precision=options.precision)
    explanations = [(name, explain(predictor, image, top=options.top)) for name, image in images]
    save_picture(explanations, options.out)
    if options.json:
        documents = [{"path": name, **explanation.to_dict()} for name, explanation in explanations]
        output.write_json({"picture": options.out, "photographs": documents})
    else:
        output.write_line(f"picture     {printable(options.out)}")


COMMAND = Command(
    name="explain",
    summary="draw what a prediction rests on: the patches that were kept",
    add_options=_add_options,
    run=_run,
)
