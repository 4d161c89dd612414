"""What the synthetic benchmark shows: MP-FGVC beside zero-shot, a linear probe and full fine-tuning.

    python benchmarks/birds.py --work runs/birds                          # all of it: hours on two cores
    python benchmarks/birds.py --work runs/birds --species 30 --shots 20  # one column

The default recipe and its towers, 5, 10 and 20 training pictures of each of 30 and 200 classes, three
seeds of training (the pictures are the same). All training pictures, a fixed number of epochs, the test
split read once at the end. What is finished stays in --work, so an interrupted benchmark continues where it
stopped; each column of the table is written as soon as it is done, beside those of earlier calls.
"""

import json
from argparse import ArgumentParser, Namespace
from typing import Any

from accuracy import finetune, mpfgvc, probe
from common import (
    Method,
    Overrides,
    Scores,
    add_run_options,
    environment_of,
    once,
    parse_settings,
    result_file,
    settings_of,
    spread,
    write_document,
    zero_shot,
)

METHODS: dict[str, Method] = {"zero-shot": zero_shot, "probe": probe, "finetune": finetune, "mpfgvc": mpfgvc}
WITHOUT_CHANCE = {"zero-shot", "probe"}
"""Methods without anything random: one seed is enough."""


def main() -> None:
    options, overrides = _parse()
    environment = environment_of(settings_of("synthetic", overrides))
    for species in options.species:
        for shots in options.shots:
            title = f"{species} classes, {shots} pictures"
            scores = _scores(species, shots, options, overrides)
            _print(title, scores, len(options.seeds))
            _keep(options.name, title, {"seeds": options.seeds, "top1": scores, "environment": environment})


def _scores(species: int, shots: int, options: Namespace, overrides: Overrides) -> dict[str, Scores]:
    """Mean and spread of top-1 by method and source."""
    scores: dict[str, list[float]] = {}
    pictures = overrides | {"data.birds.species": species, "data.birds.train": shots}
    for method, measure in METHODS.items():
        for seed in options.seeds[:1] if method in WITHOUT_CHANCE else options.seeds:
            config = settings_of("synthetic", pictures | {"seed": seed})
            result = once(measure, config, options.work / f"{species}x{shots}" / f"{method}-{seed}")
            for source in ("top1", "vision", "text", "fusion"):
                if source in result:
                    name = method if source == "top1" else f"{method} {source}"
                    scores.setdefault(name, []).append(result[source])
    return {name: spread(values) for name, values in scores.items()}


def _keep(name: str, title: str, column: dict[str, Any]) -> None:
    """Put a column into the result file, beside those that are there; each has its own environment."""
    file = result_file(name)
    columns = json.loads(file.read_text())["columns"] if file.exists() else {}
    write_document(name, {"claim": "birds", "columns": columns | {title: column}})


def _print(title: str, scores: dict[str, Scores], seeds: int) -> None:
    print(f"{title}, {seeds} seeds")
    for name, value in scores.items():
        print(f"  {name:16s} {100 * value['mean']:5.1f} ± {100 * value['std']:.1f} %", flush=True)


def _parse() -> tuple[Namespace, Overrides]:
    parser = ArgumentParser(description=__doc__)
    add_run_options(parser)
    parser.add_argument("--name", default="birds", help="name of the result file")
    parser.add_argument("--species", type=int, nargs="+", default=[30, 200])
    parser.add_argument("--shots", type=int, nargs="+", default=[5, 10, 20])
    return parse_settings(parser)


if __name__ == "__main__":
    main()
