"""Accuracy of MP-FGVC beside two baselines: same photographs, tower, budget and seeds.

    probe      logistic regression on the class token of the frozen tower
    finetune   the plain tower and a linear head, trained like stage 1: same augmentation, batches,
               epochs, precision, optimiser, learning rates by depth and schedule
    mpfgvc     both stages; the three sources of logits apart

Protocol: choices are made with `--validate 0.3`, on photographs held out of training. The final runs
train on all training photographs for a fixed number of epochs and touch the test split once, at the end.
What is finished stays in --work, so an interrupted benchmark continues where it was.
"""

import csv
import json
import statistics
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import yaml
from torch import Tensor, nn

from mpfgvc import Config, load_config, resume, train
from mpfgvc.config_io import config_to_dict
from mpfgvc.data.catalog import read_photos
from mpfgvc.data.loading import Batches, TrainingLoader, evaluation_loader, worker_count
from mpfgvc.data.transforms import test_transform, train_transform
from mpfgvc.devices import start_fabric
from mpfgvc.evaluation.evaluate import evaluate
from mpfgvc.model.towers.image_tower import build_image_tower
from mpfgvc.training.environment import describe_environment
from mpfgvc.training.optim import ParameterGroup, build_optimizer, schedule, set_learning_rate
from mpfgvc.training.run import preprocessing_of

RESULTS = Path(__file__).parent / "results"
PROBE_PENALTY = 1e-3
Scores = dict[str, float]
Method = Callable[[Config, Path, Namespace], Scores]


def main() -> None:
    options, overrides = _parse()
    scores: dict[str, list[Scores]] = {method: [] for method in options.methods}
    for seed in options.seeds:
        settings = overrides | {"seed": seed, "data.validation": options.validate}
        config = load_config(options.config, overrides=settings | {"final_test": not options.validate})
        for method in options.methods:
            folder = options.work / f"{method}-{seed}"
            scores[method].append(once(METHODS[method], config, folder, options))
    fabric = start_fabric(config)
    summary = {
        f"{method} {source}": spread([score[source] for score in runs])
        for method, runs in scores.items()
        for source in runs[0]
    }
    _print(summary, options)
    document = {"claim": options.name, "seeds": options.seeds, "validate": options.validate, "scores": scores}
    environment = describe_environment(
        device=str(fabric.device), precision=str(fabric.strategy.precision.precision), processes=1
    )
    del environment["command"]  # it holds the paths of one machine
    document |= {"summary": summary, "environment": environment}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{options.name}.json").write_text(json.dumps(document, indent=2) + "\n")


def probe(config: Config, folder: Path, options: Namespace) -> Scores:
    """Logistic regression with an L2 penalty on standardised class tokens, to convergence."""
    tower = build_image_tower(config.model.image_tower).eval()
    train_tokens, train_labels = load_class_tokens(tower.transformer, config, "train")
    test_tokens, test_labels = load_class_tokens(tower.transformer, config, _split(options))
    mean, std = train_tokens.mean(dim=0), train_tokens.std(dim=0)
    head = nn.Linear(tower.width, int(train_labels.max()) + 1)
    nn.init.zeros_(head.weight)
    optimizer = torch.optim.LBFGS(head.parameters(), max_iter=500, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(head((train_tokens - mean) / std), train_labels)
        loss = loss + PROBE_PENALTY * head.weight.square().sum() / 2
        loss.backward()
        return loss

    optimizer.step(closure)
    return {"top1": _accuracy(head((test_tokens - mean) / std), test_labels)}


def finetune(config: Config, folder: Path, options: Namespace) -> Scores:
    """The plain tower with a linear head, trained end to end."""
    photos = read_photos(config.data, seed=config.seed)
    torch.manual_seed(config.seed)
    tower = build_image_tower(config.model.image_tower)
    settings, fabric = config.stage1, start_fabric(config)
    tower = tower.to(fabric.device)
    head = nn.Linear(tower.width, len(photos.classes)).to(fabric.device)
    loader = TrainingLoader(
        photos.subset("train"),
        train_transform(preprocessing_of(tower, config), config.data.augment),
        batch_size=settings.batch_size,
        seed=config.seed,
        workers=worker_count(config.data.workers),
    )
    groups = [ParameterGroup(list(head.parameters()), settings.lr, decays=True)]
    for name, weight in tower.named_parameters():
        rate = settings.tower_lr * settings.layer_decay ** (tower.depth - tower.depth_of(name))
        groups.append(ParameterGroup([weight], rate, decays=weight.ndim > 1))
    optimizer = build_optimizer(groups, settings)
    warmup, total = round(settings.warmup_epochs * loader.steps), settings.epochs * loader.steps
    tower.train()
    for epoch in range(settings.epochs):
        for step, batch in enumerate(loader.epoch(epoch), start=epoch * loader.steps):
            set_learning_rate(optimizer, schedule(step, warmup=warmup, total=total))
            with fabric.autocast():
                logits = head(_class_token(tower.transformer, batch.images.to(fabric.device)))
                loss = F.cross_entropy(logits, batch.labels.to(fabric.device))
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_([*tower.parameters(), *head.parameters()], settings.clip or float("inf"))
            optimizer.step()
    tokens, labels = load_class_tokens(tower.transformer.eval(), config, _split(options))
    return {"top1": _accuracy(head.cpu()(tokens), labels)}


def mpfgvc(config: Config, folder: Path, options: Namespace) -> Scores:
    """Both stages by the library itself."""
    started = (folder / "config.yaml").exists()
    if started:
        stored = load_config(folder / "config.yaml")
        if (stored.data, stored.stage1, stored.stage2) != (config.data, config.stage1, config.stage2):
            raise SystemExit(f"{folder} is a run of other settings; choose another --work")
    run = resume(folder) if started else train(config, out=folder)
    metrics = run.metrics or evaluate(folder, split="validation")
    seconds = {"stage1": 0.0, "stage2": 0.0}
    with (folder / "metrics.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            seconds[row["stage"]] += float(row["seconds"])
    scores = {source: values.top1 for source, values in metrics.sources.items()}
    return scores | {f"{stage} seconds": value for stage, value in seconds.items()}


METHODS: dict[str, Method] = {
    "probe": probe,
    "finetune": finetune,
    "mpfgvc": mpfgvc,
}


def _parse() -> tuple[Namespace, dict[str, Any]]:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True, help="recipe; further settings as --name value")
    parser.add_argument("--name", required=True, help="name of the result file")
    parser.add_argument("--work", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--validate", type=float, default=0.0, help="score on this share of training instead")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    options, rest = parser.parse_known_args()
    names = [word.removeprefix("--") for word in rest[::2]]
    return options, dict(zip(names, map(yaml.safe_load, rest[1::2]), strict=True))


def once(measure: Method, config: Config, folder: Path, options: Namespace) -> Scores:
    """The scores that a method reaches, computed unless they were before, with these very settings."""
    kept, settings = folder.with_suffix(".json"), config_to_dict(config)
    if kept.exists():
        document = json.loads(kept.read_text())
        if document["settings"] != settings:
            raise SystemExit(f"{kept} is of other settings; choose another --work")
        return dict(document["scores"])
    started = time.perf_counter()
    scores = measure(config, folder, options)
    scores["minutes"] = (time.perf_counter() - started) / 60
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps({"settings": settings, "scores": scores}))
    return scores


def _split(options: Namespace) -> str:
    return "validation" if options.validate else "test"


def _class_token(transformer: nn.Module, images: Tensor) -> Tensor:
    """timm's own forward, not ours."""
    token: Tensor = transformer.forward_features(images)[:, 0]
    return transformer.fc_norm(token)


@torch.no_grad()
def load_class_tokens(transformer: nn.Module, config: Config, split: Any) -> tuple[Tensor, Tensor]:
    """The class tokens and labels of a split, by timm's own forward, on the CPU."""
    device = next(transformer.parameters()).device
    tower = build_image_tower(config.model.image_tower, load_weights=False)
    batches: Batches = evaluation_loader(
        read_photos(config.data, seed=config.seed).subset(split),
        test_transform(preprocessing_of(tower, config)),
        batch_size=64,
        workers=worker_count(config.data.workers),
    )
    pairs = [(_class_token(transformer, batch.images.to(device)).cpu(), batch.labels) for batch in batches]
    return torch.cat([tokens for tokens, _ in pairs]), torch.cat([labels for _, labels in pairs])


def _accuracy(logits: Tensor, labels: Tensor) -> float:
    return (logits.argmax(dim=1) == labels).float().mean().item()


def spread(values: list[float]) -> dict[str, float]:
    return {"mean": statistics.mean(values), "std": statistics.stdev(values) if len(values) > 1 else 0.0}


def _print(summary: dict[str, dict[str, float]], options: Namespace) -> None:
    print(f"{options.name}: {_split(options)} split, {len(options.seeds)} seeds")
    for name, value in summary.items():
        scale, unit = (1, "") if "seconds" in name or "minutes" in name else (100, " %")
        print(f"{name:28s} {scale * value['mean']:7.1f} ± {scale * value['std']:.1f}{unit}")


if __name__ == "__main__":
    main()
