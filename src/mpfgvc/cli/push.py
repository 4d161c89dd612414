"""`mpfgvc push`: a finished run as a model repository on the Hugging Face hub, with a model card."""

import logging
from argparse import ArgumentParser, Namespace
from pathlib import Path
from tempfile import TemporaryDirectory

from mpfgvc.cli import output
from mpfgvc.cli.command import Command, add_json
from mpfgvc.errors import ConfigError, printable
from mpfgvc.inference.description import HUB, check_repository


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
    from mpfgvc.deploy.hub.push import PUSHED, check_token, push_model, write_model

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # what it warns of is said here
    repository = check_repository(options.repository.removeprefix(HUB))
    if not options.dry_run:
        check_token()  # before torch is imported
    with TemporaryDirectory() as temporary:
        out = Path(options.out or Path(temporary) / "model")
        write_model(options.run, repository, out, license_name=options.license, dataset=options.dataset)
        if options.dry_run:
            document: dict[str, object] = {"repository": repository, "folder": options.out, "files": PUSHED}
            line = f"written  {printable(options.out)}: {', '.join(PUSHED)}"
        else:
            pushed = push_model(out, repository, private=options.private, message=options.message)
            document = {**vars(pushed), "files": PUSHED}
            what = "pushed" if pushed.changed else "unchanged"
            line = f"{what}  {pushed.url}, commit {pushed.commit[:12]}"
    if options.json:
        output.write_json(document)
    else:
        output.write_line(line)


COMMAND = Command(
    name="push", add_options=_add_options, run=_run, interrupted="interrupted; nothing was committed to the hub"
)
