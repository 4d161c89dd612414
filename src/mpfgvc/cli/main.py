"""The command line: import what the command needs, call one function, print its result.

Results go to standard output (`--json`: one JSON document and nothing else),
progress and notes to standard error. What a user can put right ends with one
line and exit code 2. Only this file imports lazily and configures logging; the
options of each command stand in `arguments.py`.
"""

import json
import logging
import os
import sys
import warnings
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from typing import Any

from mpfgvc.cli.arguments import parse
from mpfgvc.errors import ConfigError, MpfgvcError

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    logging.basicConfig(level=logging.ERROR, format="%(name)s: %(message)s")
    warnings.filterwarnings("ignore", module="lightning_fabric|torch|torchmetrics")
    try:
        options = parse(arguments)
        return COMMANDS[options.command](options) or 0
    except MpfgvcError as error:
        # A wrong setting is wrong on every process alike; a broken file only where it was read.
        if not isinstance(error, ConfigError) or os.environ.get("RANK", "0") == "0":
            print(f"mpfgvc: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        print("mpfgvc: interrupted; continue a training with: mpfgvc train --resume RUN", file=sys.stderr)
        return EXIT_INTERRUPTED


def _train(options: Namespace) -> None:
    if options.help:
        _print_train_help(options.parser)
        return
    if options.resume is not None and (options.settings or options.config or options.out):
        given = (options.settings or ["--config" if options.config else "--out"])[0]
        raise ConfigError(f"--resume keeps the run's own settings; leave out {given}, or start a new run")
    from mpfgvc.config_io import load_config, parse_overrides, recipe

    if options.resume is not None:
        from mpfgvc.training.run import resume

        run = resume(options.resume)
    else:
        overrides = parse_overrides(options.settings)
        own_data = overrides.get("data.dataset", "synthetic") != "synthetic"
        own_data = own_data or "data.root" in overrides or "data.manifest" in overrides
        source = options.config or (None if own_data else recipe("synthetic"))
        config = load_config(source, overrides=overrides)
        if config.data.root is None and config.data.manifest is None and config.data.dataset != "synthetic":
            raise ConfigError("data.root is not set; give a folder of class folders: --data.root my_photos/")
        from mpfgvc.training.run import train

        run = train(config, out=options.out)
    if _is_first_process():
        from mpfgvc.cli.tables import print_run

        print_json(run.to_dict()) if options.json else print_run(run)


def _evaluate(options: Namespace) -> None:
    from mpfgvc.cli.tables import print_evaluation, write_report
    from mpfgvc.evaluation.evaluate import evaluate

    evaluation = evaluate(options.run_folder, split=options.split, root=options.root, device=options.device)
    if not _is_first_process():
        return
    if options.report is not None:
        write_report(evaluation, options.report)
    print_json(evaluation.to_dict()) if options.json else print_evaluation(evaluation)


def _predict(options: Namespace) -> None:
    if options.top < 1 or options.batch_size < 1:
        raise ConfigError("--top and --batch-size must be at least 1")
    from mpfgvc.cli.tables import print_guesses, print_guesses_csv
    from mpfgvc.errors import DataError
    from mpfgvc.inference.predictor import Predictor, find_images
    from mpfgvc.progress import say

    paths = find_images(options.photos)
    predictor = Predictor.from_pretrained(options.model, device=options.device, source=options.source)
    results = list(predictor.predict_files(paths, top=options.top, batch_size=options.batch_size))
    read = [(path, guesses) for path, guesses in results if guesses is not None]
    if options.json:
        print_json(
            [{"path": str(path), "guesses": [vars(guess) for guess in guesses]} for path, guesses in read]
        )
    else:
        (print_guesses_csv if options.csv else print_guesses)(read)
    broken = [path for path, guesses in results if guesses is None]
    for path in broken[:-1]:
        say(f"cannot read the photograph {path}")
    if broken:
        count = f"{len(broken)} of {len(paths)} photographs could not be read"
        raise DataError(f"cannot read the photograph {broken[-1]}; {count}, export them again")


def _explain(options: Namespace) -> None:
    if options.top < 1 or options.most < 1:
        raise ConfigError("--top and --most must be at least 1")
    if not options.out.lower().endswith(".png"):
        raise ConfigError(f"--out must end in .png, got {options.out}")
    from mpfgvc.inference.explain import explain, named_files, named_test_images, save_picture
    from mpfgvc.inference.predictor import Predictor

    images = named_files(options.photos) if options.photos else named_test_images(options.model, options.most)
    images = images[: options.most]
    predictor = Predictor.from_pretrained(options.model, device=options.device)
    explanations = {name: explain(predictor, image, top=options.top) for name, image in images}
    save_picture(explanations, options.out)
    if options.json:
        documents = [{"path": name, **explanation.to_dict()} for name, explanation in explanations.items()]
        print_json({"picture": options.out, "photographs": documents})
    else:
        print(f"picture     {options.out}")


def _check_data(options: Namespace) -> int:
    from mpfgvc.config_io import load_config, parse_overrides

    config = load_config(options.config, overrides=parse_overrides(options.settings))
    from mpfgvc.cli.tables import print_check
    from mpfgvc.data.doctor import check_photos

    report = check_photos(config.data, seed=config.seed, quick=options.quick)
    print_json(report.to_dict()) if options.json else print_check(report)
    return 0 if report.fine else EXIT_USER_ERROR


def _synthesize(options: Namespace) -> None:
    from pathlib import Path

    from mpfgvc.config_io import load_config, parse_overrides

    overrides = parse_overrides(options.settings)
    for name in overrides:
        if not name.startswith("data.birds."):
            raise ConfigError(f"data synthesize takes the settings data.birds.* alone, got --{name}")
    birds = load_config(overrides=overrides).data.birds
    from mpfgvc.data.synthesize import synthesize

    count = synthesize(Path(options.out), birds)
    if options.json:
        print_json({"path": options.out, "classes": birds.species, "images": count})
    else:
        print(f"{count} images of {birds.species} classes in {options.out}")
        print(f"next        mpfgvc train --data.dataset cub --data.root {options.out}")


COMMANDS: dict[str, Callable[[Namespace], int | None]] = {
    "train": _train,
    "evaluate": _evaluate,
    "predict": _predict,
    "explain": _explain,
    "data check": _check_data,
    "data synthesize": _synthesize,
}


def _print_train_help(parser: ArgumentParser) -> None:
    from jsonargparse import ArgumentParser as SettingsParser

    from mpfgvc.config_io import add_settings

    settings = add_settings(SettingsParser(prog="mpfgvc train", usage="", add_help=False))
    print(parser.format_help())
    print(settings.format_help().strip())


def _is_first_process() -> bool:
    return os.environ.get("RANK", "0") == "0"


def print_json(document: Any) -> None:
    """The one JSON document of a command."""
    print(json.dumps(document, indent=2, ensure_ascii=False))
