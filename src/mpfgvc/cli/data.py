"""`mpfgvc data check`, `data synthesize` and `data pack`: look at a dataset, draw one, or pack one."""

from __future__ import annotations

import shlex
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from dataclasses import asdict, replace
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpfgvc.cli import output
from mpfgvc.cli.command import Command, add_json
from mpfgvc.errors import ConfigError, printable
from mpfgvc.files import write_text
from mpfgvc.recipes_io import load_config, parse_overrides

if TYPE_CHECKING:
    from mpfgvc.data.doctor import CheckedDataset, Report

SHOWN = 20
"""Findings of one kind that are printed; --json and --page have all."""
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
    dataset = _dataset(options, parse_overrides(options.settings))
    from mpfgvc.data.doctor import check, write_clean_manifest

    report = check(dataset, quick=options.quick)
    if options.run_folder is not None and not options.quick:
        from mpfgvc.training.labels import label_findings

        report = replace(report, findings=(*report.findings, *label_findings(options.run_folder, dataset.photos)))
    if options.page is not None:
        from mpfgvc.data.doctor_page import doctor_page

        write_text(Path(options.page), doctor_page(report, dataset))
    left_out = None if options.fix is None else write_clean_manifest(report, dataset, Path(options.fix))
    if options.json:
        fix = {"path": options.fix, "root": str(dataset.root), "left_out": left_out}
        document = report.to_dict() | ({} if options.page is None else {"page": options.page})
        output.write_json(document | ({} if left_out is None else {"fix": fix}))
        return report.exit_code
    _write_report(report)
    if options.page is not None:
        output.write_line(f"page            {printable(options.page)}")
    if left_out is not None:
        _write_fixed(options.fix, dataset, left_out)
    return report.exit_code


def _write_report(report: Report) -> None:
    """What is in a dataset, then each finding, at most `SHOWN` of a kind."""
    output.write_line(f"{printable(report.name)}, {len(report.class_counts)} classes")
    output.write_table(["split", "photographs"], [(name, str(count)) for name, count in report.counts.items()])
    lines = []
    for what, extreme in (("smallest class", min), ("largest class", max)):
        name, count = extreme(report.class_counts.items(), key=itemgetter(1))
        lines.append(f"{what:15} {name} ({count})")
    if report.complete is not None:
        lines.append(f"complete        {report.complete}")
    kinds = dict.fromkeys(finding.kind for finding in report.findings)
    for kind in kinds:
        found = report.of(kind)
        lines += [f"{kind:15} {finding.line}" for finding in found[:SHOWN]]
        lines += [f"{'':15} and {len(found) - SHOWN} more: --page or --json"] if len(found) > SHOWN else []
    output.write("".join(f"{printable(line)}\n" for line in lines + ([] if kinds else ["nothing is wrong with it"])))


def _write_fixed(path: str, dataset: CheckedDataset, left_out: Mapping[str, str]) -> None:
    """What was written and what was left out, and how to train with it."""
    path, root = printable(path), printable(str(dataset.root))
    kept = len(dataset.photos.samples) - len(left_out)
    lines = [f"manifest        {path}: {kept} photographs, {len(left_out)} left out"]
    lines += [f"  left out      {path}: {reason}" for path, reason in list(left_out.items())[:SHOWN]]
    lines += [f"                and {len(left_out) - SHOWN} more: --json"] if len(left_out) > SHOWN else []
    lines.append(f"next            mpfgvc train --data.dataset manifest --data.manifest {path} --data.root {root}")
    output.write("".join(f"{printable(line)}\n" for line in lines))


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
