"""`mpfgvc data check`, `data synthesize` and `data pack`: look at a dataset, draw one, or pack one."""

from __future__ import annotations

import shlex
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpfgvc.cli import output
from mpfgvc.cli.command import Command, add_json
from mpfgvc.errors import ConfigError, printable
from mpfgvc.files import write_text
from mpfgvc.progress import say
from mpfgvc.recipes_io import load_config, parse_overrides

if TYPE_CHECKING:
    from mpfgvc.data.doctor import CheckedDataset, CleanManifest, Report
    from mpfgvc.data.doctor_page import Finding
    from mpfgvc.training.labels import LabelCheck, Outlier, SuspectedLabel

SHOWN = 20
"""Suspected labels, and outliers, that are printed; --json and --page have all."""
_BIRDS = "data.birds."


def _add_check_options(parser: ArgumentParser) -> None:
    add_json(parser)
    parser.add_argument(
        "--config", metavar="RECIPE", help="name of a recipe, or a YAML file; only its data settings are used"
    )
    parser.add_argument(
        "--run",
        dest="run_folder",
        metavar="RUN",
        help="check the photographs of this run, in the splits that it stored; its image tower judges their labels",
    )
    parser.add_argument("--quick", action="store_true", help="read only the headers of the photographs")
    parser.add_argument(
        "--page", metavar="FILE.html", help="write a page that shows the photographs in question, in pairs"
    )
    parser.add_argument(
        "--fix",
        metavar="FILE.csv",
        help="write a manifest without leaks and duplicates; the photographs are not touched",
    )
    parser.epilog = (
        "Settings: --data.root FOLDER, --data.dataset cub and all other data settings of mpfgvc train.\n"
        "Exit code: 0 fine, 1 a test would be falsified (leaks, labels that disagree),\n"
        "2 something cannot be read."
    )


def _check(options: Namespace) -> int:
    overrides = parse_overrides(options.settings)
    dataset = _dataset(options, overrides)
    from mpfgvc.cli.tables import write_check
    from mpfgvc.data.doctor import check, write_clean_manifest

    report = check(dataset, quick=options.quick)
    labels = _labels(dataset, options)
    page = None if options.page is None else _write_page(dataset, report, labels, Path(options.page))
    fixed = None
    if options.fix is not None:
        out = Path(options.fix)
        fixed = write_clean_manifest(report, dataset.photos, root=dataset.root, out=out)
    if options.json:
        more = {"labels": labels, "fix": fixed}
        document = report.to_dict() | {name: each.to_dict() for name, each in more.items() if each is not None}
        output.write_json(document | ({} if page is None else {"page": page}))
        return report.exit_code
    write_check(report)
    if labels is not None:
        _write_labels(labels)
    if page is not None:
        output.write_line(f"page            {printable(page)}")
    if fixed is not None:
        _write_fixed(fixed)
    return report.exit_code


def _labels(dataset: CheckedDataset, options: Namespace) -> LabelCheck | None:
    """The judgement of the run's image tower; None without a run, or where only headers are read."""
    if options.run_folder is None or options.quick:
        return None
    from mpfgvc.training.labels import check_labels

    return check_labels(options.run_folder, dataset.photos)


def _write_page(dataset: CheckedDataset, report: Report, labels: LabelCheck | None, out: Path) -> str:
    from mpfgvc.data.doctor_page import doctor_page, photo_finding

    classes = dataset.photos.classes
    samples = {str(each.path): (classes[each.label], str(each.split)) for each in dataset.photos.samples}
    more: list[Finding] = []
    if labels is not None:
        more += [
            photo_finding("suspected label", _doubt(each), _paths(each.path, each.like), samples)
            for each in labels.suspects
        ]
        more += [
            photo_finding("like no other", _distance(each), _paths(each.path, each.nearest), samples)
            for each in labels.outliers
        ]
    write_text(out, doctor_page(report, dataset.root, samples, more))
    return str(out)


def _paths(path: str, other: str | None) -> tuple[str, ...]:
    return (path,) if other is None else (path, other)


def _write_labels(labels: LabelCheck) -> None:
    lines = [f"suspected label {each.path} ({_doubt(each)})" for each in labels.suspects[:SHOWN]]
    lines += _rest(len(labels.suspects), "suspected labels")
    lines += [f"like no other   {each.path} ({_distance(each)})" for each in labels.outliers[:SHOWN]]
    lines += _rest(len(labels.outliers), "photographs like no other")
    output.write("".join(f"{printable(line)}\n" for line in lines))
    for note in labels.notes:
        say(note)


def _rest(count: int, what: str) -> list[str]:
    return [f"and {count - SHOWN} more {what}: --page or --json"] if count > SHOWN else []


def _doubt(suspect: SuspectedLabel) -> str:
    given, guess = 100 * suspect.self_confidence, 100 * suspect.guess_confidence
    return f"called {suspect.label}, {given:.0f} %; rather {suspect.guess}, {guess:.0f} %"


def _distance(outlier: Outlier) -> str:
    return f"{outlier.label}; distance to the nearest ones {outlier.distance:.2f}"


def _write_fixed(fixed: CleanManifest) -> None:
    """What was written and what was left out, and how to train with it."""
    path, root = printable(fixed.path), printable(fixed.root)
    output.write_line(f"manifest        {path}: {fixed.kept} photographs, {len(fixed.left_out)} left out")
    for each in fixed.left_out[:SHOWN]:
        output.write_line(printable(f"  left out      {each.path}: {each.reason}"))
    for line in _rest(len(fixed.left_out), "are left out"):
        output.write_line(line.replace("--page or --json", "--json"))
    output.write_line(f"next            mpfgvc train --data.dataset manifest --data.manifest {path} --data.root {root}")


def _dataset(options: Namespace, overrides: Mapping[str, Any]) -> CheckedDataset:
    from mpfgvc.data.doctor import dataset_to_check, run_to_check

    if options.run_folder is None:
        config = load_config(options.config, overrides=overrides)
        return dataset_to_check(config.data, seed=config.seed)
    others = [f"--{name}" for name in overrides if name not in ("data.root", "data.manifest")]
    others += ["--config"] if options.config is not None else []
    if others:
        raise ConfigError(f"--run takes only --data.root and --data.manifest, got {others[0]}; leave it out")
    return run_to_check(options.run_folder, root=overrides.get("data.root"), manifest=overrides.get("data.manifest"))


def _add_synthesize_options(parser: ArgumentParser) -> None:
    add_json(parser)
    parser.add_argument("--out", metavar="FOLDER", required=True, help="new folder of the dataset")
    parser.epilog = (
        "Settings: --data.birds.species 30, --data.birds.train 20, --data.birds.test 20,\n"
        "--data.birds.image_size 96, --data.birds.seed 0."
    )


def _synthesize(options: Namespace) -> None:
    overrides = parse_overrides(options.settings)
    for name in overrides:
        if not name.startswith(_BIRDS):
            raise ConfigError(f"data synthesize takes only the settings {_BIRDS}*, got --{name}")
    birds = load_config(overrides=overrides).data.birds
    from mpfgvc.data.synthesize import synthesize

    count = synthesize(Path(options.out), birds)
    if options.json:
        output.write_json({"path": options.out, "classes": birds.species, "images": count})
        return
    folder = printable(options.out)
    output.write_line(f"{count} images of {birds.species} classes in {folder}")
    quoted = printable(shlex.quote(options.out))
    output.write_line(f"next        mpfgvc train --data.dataset cub --data.root {quoted}")


def _add_pack_options(parser: ArgumentParser) -> None:
    add_json(parser)
    parser.add_argument("--out", metavar="FOLDER", required=True, help="new folder of the shards")
    parser.add_argument(
        "--config", metavar="RECIPE", help="name of a recipe, or a YAML file; only its data settings are used"
    )
    parser.add_argument(
        "--size",
        type=int,
        metavar="PIXELS",
        help="write copies with this shorter side, as JPEG: faster to read, no longer the same photographs",
    )
    parser.add_argument(
        "--per-shard", type=int, default=1000, metavar="COUNT", help="photographs in a shard (default: 1000)"
    )
    parser.epilog = (
        "Settings: --data.root FOLDER, --data.dataset cub and all other data settings of mpfgvc train.\n"
        "The splits are packed as they are drawn with these settings.\n"
        "A pack that was stopped goes on with the same command."
    )


def _pack(options: Namespace) -> None:
    config = load_config(options.config, overrides=parse_overrides(options.settings))
    from mpfgvc.data.catalog import read_photos
    from mpfgvc.data.pack import pack
    from mpfgvc.data.samples import counted

    photos = read_photos(config.data, seed=config.seed)
    packed = pack(
        photos, Path(options.out), per_shard=options.per_shard, size=options.size, on_error=config.data.on_error
    )
    if options.json:
        output.write_json({**asdict(packed), "path": options.out, "notes": list(photos.notes)})
        return
    for note in photos.notes:
        output.write_line(printable(note))
    if packed.unreadable:
        output.write_line(printable(counted("photographs that cannot be read, left out", packed.unreadable)))
    kept = f" ({packed.kept_shards} of them were there)" if packed.kept_shards else ""
    size = f"{packed.bytes / 1e6:.1f} MB"
    counts = f"{packed.photographs} photographs in {packed.shards} shards{kept}, {size}"
    output.write_line(f"{counts}, in {printable(options.out)}")
    quoted = printable(shlex.quote(options.out))
    output.write_line(f"next        mpfgvc train --data.dataset shards --data.root {quoted}")


COMMANDS = (
    Command(name="data check", add_options=_add_check_options, run=_check, takes_settings=True),
    Command(name="data pack", add_options=_add_pack_options, run=_pack, takes_settings=True),
    Command(name="data synthesize", add_options=_add_synthesize_options, run=_synthesize, takes_settings=True),
)
