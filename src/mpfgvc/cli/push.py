"""`mpfgvc push`: a finished run as a model repository on the Hugging Face hub, with a model card."""

import logging
from argparse import ArgumentParser, Namespace
from pathlib import Path

from mpfgvc.cli import output
from mpfgvc.cli.command import Command, add_json
from mpfgvc.errors import ConfigError, printable
from mpfgvc.progress import say


def _add_options(parser: ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="run folder of a finished training")
    parser.add_argument("repository", metavar="USER/NAME", help="repository on the hub; made if it is new")
    parser.add_argument("--private", action="store_true", help="make a new repository private")
    parser.add_argument("--message", metavar="TEXT", help="message of the commit")
    parser.add_argument(
        "--license",
        metavar="ID",
        help="licence of the model as the hub names it, such as cc-by-nc-4.0 (default: none is stated)",
    )
    parser.add_argument(
        "--dataset",
        metavar="NAME",
        help="what the model card calls the photographs (default: the name of a published dataset; "
        "'own photographs' for folders and tables)",
    )
    parser.add_argument("--dry-run", action="store_true", help="push nothing, but write the files to --out")
    parser.add_argument("-o", "--out", metavar="FOLDER", help="new folder for the files of --dry-run")
    add_json(parser)


def _run(options: Namespace) -> None:
    if options.dry_run != (options.out is not None):
        rule = "--dry-run needs --out, a new folder for the files" if options.dry_run else "--out goes with --dry-run"
        raise ConfigError(rule)
    from mpfgvc.deploy.hub.push import check_token, hub_model, push_model, write_model

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # what it warns of is said here
    if not options.dry_run:
        check_token()  # before torch is imported
    model = hub_model(options.run, options.repository, license_name=options.license, dataset=options.dataset)
    for note in model.notes:
        say(note)
    if options.dry_run:
        write_model(model, Path(options.out))
        document = {"repository": model.repository, "folder": options.out, "files": sorted(model.files)}
        line = f"written  {printable(options.out)}: {', '.join(sorted(model.files))}"
    else:
        pushed = push_model(model, private=options.private, message=options.message)
        document = {**vars(pushed), "files": sorted(model.files)}
        what = "pushed" if pushed.changed else "unchanged"
        line = f"{what}  {pushed.url}, commit {pushed.commit[:12]}"
    if options.json:
        output.write_json(document)
    else:
        output.write_line(line)


COMMAND = Command(
    name="push", add_options=_add_options, run=_run, interrupted="interrupted; nothing was committed to the hub"
)
