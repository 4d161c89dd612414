"""`mpfgvc evaluate`: the accuracies of a run on a split of its dataset."""

from argparse import ArgumentParser, Namespace

from mpfgvc.cli import output
from mpfgvc.cli.command import Command, add_dataset_place, add_device, add_json


def _add_options(parser: ArgumentParser) -> None:
    parser.add_argument("run_folder", metavar="RUN", help="run folder of a training")
    add_json(parser)
    parser.add_argument(
        "--split",
        choices=["test", "validation", "train"],
        default="test",
        help="which photographs to evaluate (default: test)",
    )
    add_dataset_place(parser)
    add_device(parser)
    parser.add_argument(
        "--report", metavar="FOLDER", help="write a table of classes and one of confusions (CSV) here"
    )


def _run(options: Namespace) -> None:
    from mpfgvc.evaluation.evaluate import evaluate

    evaluation = evaluate(
        options.run_folder,
        split=options.split,
        root=options.root,
        manifest=options.manifest,
        device=options.device,
        precision=options.precision,
    )
    if not output.is_first_process():
        return
    if options.report is not None:
        from mpfgvc.evaluation.report import write_report

        write_report(evaluation, options.report)
    if options.json:
        output.write_json(evaluation.to_dict())
        return
    from mpfgvc.cli.tables import write_evaluation

    write_evaluation(evaluation)


COMMAND = Command(
    name="evaluate",
    summary="accuracies of a run on its test split",
    add_options=_add_options,
    run=_run,
    shares_work=True,
)
