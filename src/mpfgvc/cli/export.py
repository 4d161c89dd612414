"""`mpfgvc export`: a trained model as one file, compared with the model before it gets its name."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from dataclasses import replace
from typing import TYPE_CHECKING, get_args

from mpfgvc.cli import output
from mpfgvc.cli.command import Command, add_json, add_model, check_positive
from mpfgvc.errors import printable
from mpfgvc.terms import Engine, ExportPrecision

if TYPE_CHECKING:
    from mpfgvc.deploy.export.export import Exported


def _add_options(parser: ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument("-o", "--out", metavar="FILE", required=True, help="a .onnx file to write")
    parser.add_argument(
        "--precision",
        choices=get_args(ExportPrecision),
        default="fp32",
        help="fp16 halves the file; int8 is fast, and a little less exact (default: fp32)",
    )
    parser.add_argument(
        "--photos",
        metavar="DIR",
        help="photographs to compare on (default: validation or training photographs of the run)",
    )
    parser.add_argument("--most", type=int, default=200, help="how many of them at most (default: 200)")
    parser.add_argument("--difference", type=float, help="the largest difference of a probability that is fine, 0..1")
    parser.add_argument("--agreement", type=float, help="the least share of equal best guesses that is fine, 0..1")
    parser.add_argument(
        "--engine",
        choices=get_args(Engine),
        default="onnxruntime",
        help="what runs a .onnx file for the comparison (default: onnxruntime)",
    )
    parser.add_argument("--data.root", dest="root", metavar="FOLDER", help="where the dataset is now, if it has moved")
    add_json(parser)


def _run(options: Namespace) -> None:
    check_positive(options, "most")
    from mpfgvc.deploy.export.export import export, usual_limits

    given = {name: getattr(options, name) for name in ("difference", "agreement")}
    limits = replace(
        usual_limits(options.precision, options.engine),
        **{name: value for name, value in given.items() if value is not None},
    )
    exported = export(
        options.model,
        options.out,
        precision=options.precision,
        engine=options.engine,
        photos=options.photos,
        most=options.most,
        limits=limits,
        root=options.root,
    )
    if options.json:
        output.write_json(exported.to_dict())
    else:
        _write(exported)


def _write(exported: Exported) -> None:
    """The file, then the report, a line for each figure."""
    parity = exported.parity
    rows = [
        ("file", f"{exported.path}, {exported.precision}, {exported.bytes / 1e6:.1f} MB"),
        ("compared on", f"{parity.count} photographs, run by {exported.engine}"),
        ("same best guess", f"{100 * parity.agreement:.1f} %, of all at least {100 * parity.agreement_at_least:.1f} %"),
        ("largest difference", f"{parity.largest_difference:.1g} of a probability"),
    ]
    if parity.accuracy_before is not None and parity.accuracy_after is not None:
        before, after = 100 * parity.accuracy_before, 100 * parity.accuracy_after
        known = f"of {parity.labelled} photographs with a known class"
        rows.append(("top-1", f"{before:.1f} % before, {after:.1f} % after, {known}"))
    output.write("".join(f"{name:20s}{printable(value)}\n" for name, value in rows))


COMMAND = Command(name="export", add_options=_add_options, run=_run, interrupted="interrupted; nothing was written")
