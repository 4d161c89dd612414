"""Accuracy of MP-FGVC beside two baselines: same photographs, tower, budget and seeds.

    python benchmarks/accuracy.py --config vit_tiny --name cub27 --work runs/cub27 --data.dataset cub ...

    probe      logistic regression on the class token of the frozen tower
    finetune   the plain tower and a linear head, trained like stage 1 (fine_tuning.py)
    mpfgvc     both stages; each of the three sources of logits by itself

Settings are chosen with `--validate 0.3`, on photographs held out of training. The final runs train on all
training photographs for a fixed number of epochs and read the test split once, at the end.
What is finished stays in --work, so an interrupted benchmark continues where it stopped.
"""

import csv
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common import (
    Method,
    Overrides,
    Scores,
    accuracy,
    add_run_options,
    class_tokens,
    environment_of,
    once,
    parse_settings,
    protocol,
    scored_split,
    settings_of,
    spread,
    write_document,
)
from fine_tuning import fine_tune
from mpfgvc import Config, evaluate, resume, train
from mpfgvc.model.towers.image_tower import build_image_tower
from mpfgvc.run_folder import RunFolder
from mpfgvc.training.starts import FeatureStart

PROBE_PENALTY = 1e-3


def main() -> None:
    options, overrides = _parse()
    scores: dict[str, list[Scores]] = {method: [] for method in options.methods}
    for seed in options.seeds:
        config = settings_of(options.config, overrides | protocol(seed, options.validate))
        for method in options.methods:
            scores[method].append(once(METHODS[method], config, options.work / f"{method}-{seed}"))
    summary = {
        f"{method} {source}": spread([score[source] for score in runs])
        for method, runs in scores.items()
        for source in runs[0]
    }
    print(f"{options.name}: {scored_split(config)} split, {len(options.seeds)} seeds")
    _print(summary)
    document = {"claim": options.name, "seeds": options.seeds, "validate": options.validate, "scores": scores}
    write_document(options.name, document | {"summary": summary, "environment": environment_of(config)})


def probe(config: Config, folder: Path) -> Scores:
    """Logistic regression with an L2 penalty on standardised class tokens.

    A regression of its own: a baseline does not rest on the code that it is compared with.
    """
    tower = build_image_tower(config.model.image_tower)
    train_tokens, train_labels = class_tokens(tower, config, "train")
    tokens, labels = class_tokens(tower, config, scored_split(config))
    mean, std = train_tokens.mean(dim=0), train_tokens.std(dim=0)
    head = _regression((train_tokens - mean) / std, train_labels)
    return {"top1": accuracy(head((tokens - mean) / std), labels)}


def finetune(config: Config, folder: Path) -> Scores:
    """The plain tower with a linear head, trained end to end."""
    stage = fine_tune(config, folder)
    tokens, labels = class_tokens(stage.tower, config, scored_split(config))
    return {"top1": accuracy(stage.head.cpu()(tokens), labels)}


def mpfgvc(config: Config, folder: Path) -> Scores:
    """Both stages by the library itself."""
    run = resume(folder) if RunFolder(folder).is_run else train(config, out=folder)
    metrics = run.metrics or evaluate(folder, split="validation")
    return {source: values.top1 for source, values in metrics.sources.items()} | seconds_of_stages(folder)


METHODS: dict[str, Method] = {"probe": probe, "finetune": finetune, "mpfgvc": mpfgvc}


def _regression(tokens: Tensor, labels: Tensor) -> nn.Linear:
    head = nn.Linear(tokens.shape[1], int(labels.max()) + 1)
    nn.init.zeros_(head.weight)
    optimizer = torch.optim.LBFGS(head.parameters(), max_iter=500, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(head(tokens), labels) + PROBE_PENALTY * head.weight.square().sum() / 2
        loss.backward()
        return loss

    optimizer.step(closure)
    return head


def seconds_of_stages(folder: Path) -> Scores:
    """The seconds that the epochs of each stage took; those of the start from features are stage 1's."""
    seconds = {"stage1 seconds": 0.0, "stage2 seconds": 0.0}
    with RunFolder(folder).metrics.open(newline="") as file:
        for row in csv.DictReader(file):
            stage = "stage1" if row["stage"] == FeatureStart.name else row["stage"]
            seconds[f"{stage} seconds"] += float(row["seconds"])
    return seconds


def _print(summary: Mapping[str, Scores]) -> None:
    for name, value in summary.items():
        scale, unit = (1, "") if name.endswith(("seconds", "minutes")) else (100, " %")
        print(f"{name:28s} {scale * value['mean']:7.1f} ± {scale * value['std']:.1f}{unit}")


def _parse() -> tuple[Namespace, Overrides]:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True, help="recipe or .yaml file; further settings as --name value")
    parser.add_argument("--name", required=True, help="name of the result file")
    add_run_options(parser)
    parser.add_argument("--validate", type=float, default=0.0, help="score on this share of training instead")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    return parse_settings(parser)


if __name__ == "__main__":
    main()
