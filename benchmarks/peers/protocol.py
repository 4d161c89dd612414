"""What a user would pick instead: the terms that are the same for every peer.

Photographs, splits, tower file, image size, device, precision and loader processes are those of the
settings, as in accuracy.py. A peer may train for `--minutes`. It measures its own steps first, which is not
counted, and then trains for as many whole epochs as fit, at least one. The scored split is read once, after
the last step: the test split, or with `--validate 0.3` photographs held out of training.

What is finished stays in --work, so an interrupted benchmark continues with the next seed.
"""

import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from common import (
    Overrides,
    Scores,
    add_run_options,
    environment_of,
    once,
    protocol,
    scored_split,
    settings_of,
    spread,
    write_document,
)
from mpfgvc import Config
from mpfgvc.data.catalog import read_photos
from mpfgvc.data.loading import worker_count
from mpfgvc.data.samples import PhotoSet, Sample
from mpfgvc.distributed import start_fabric
from mpfgvc.files import write_text

RIGHT_FILE = "right.txt"


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a peer is given. `lr` replaces the peer's own learning rate, if it is not None."""

    config: Config
    photos: PhotoSet
    fabric: Fabric
    minutes: float
    lr: float | None

    @property
    def training(self) -> tuple[Sample, ...]:
        return self.photos.subset("train")

    @property
    def scored(self) -> tuple[Sample, ...]:
        return self.photos.subset(scored_split(self.config))

    @property
    def device(self) -> torch.device:
        return self.fabric.device

    @property
    def workers(self) -> int:
        return worker_count(self.config.data.workers)

    @property
    def tower(self) -> dict[str, Any]:
        """The arguments of timm's `create_model` for the tower of the settings, from their file."""
        tower = self.config.model.image_tower
        if tower.weights is None:
            raise SystemExit("set model.image_tower.weights, so that every method starts from the same file")
        if tower.image_size is None:
            raise SystemExit("set model.image_tower.image_size, so that every method sees images of one size")
        overlay = {"file": str(tower.weights), "custom_load": False}
        return {"pretrained": True, "pretrained_cfg_overlay": overlay, "img_size": tower.image_size}

    def autocast(self) -> AbstractContextManager[None]:
        """The precision of the settings, for a forward pass."""
        return self.fabric.autocast()


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a peer did, and its class for each scored photograph, in order."""

    epochs: int
    """Epochs of the whole network."""
    training_minutes: float
    guesses: list[int]


FineTune = Callable[[Task], Outcome]


class StepClock:
    """Seconds per step. The first steps are not counted: loaders and caches fill in them."""

    WARM_UP = 2
    COUNTED = 4

    def __init__(self) -> None:
        self.ends: list[float] = []

    def step_ended(self) -> bool:
        """Whether that was the last step to be measured."""
        self.ends.append(time.perf_counter())
        return len(self.ends) == self.WARM_UP + self.COUNTED

    @property
    def seconds(self) -> float:
        """The mean over the counted steps."""
        return (self.ends[-1] - self.ends[-1 - self.COUNTED]) / self.COUNTED


def epochs_within(minutes: float, *, epoch_seconds: float, first_seconds: float = 0.0) -> int:
    """The whole epochs that fit in `minutes` after `first_seconds` of other work; at least 1."""
    return max(1, int((60 * minutes - first_seconds) / epoch_seconds))


def peer_parser(description: str | None) -> ArgumentParser:
    """The options of every peer; everything else on the command line is a setting."""
    parser = ArgumentParser(description=description)
    parser.add_argument("--config", required=True, help="recipe or .yaml file; settings as --name value")
    parser.add_argument("--name", required=True, help="the result is results/peers_PEER_NAME.json")
    add_run_options(parser)
    parser.add_argument("--minutes", type=float, required=True, help="what training may take")
    parser.add_argument("--validate", type=float, default=0.0, help="score on this share of training instead")
    parser.add_argument("--lr", type=float, help="learning rate instead of the peer's own")
    return parser


def run_peer(
    peer: str, fine_tune: FineTune, options: Namespace, overrides: Overrides, packages: Sequence[str] = ()
) -> None:
    """Measure a peer with each seed, print its accuracy and write the result file.

    `packages` are those whose versions count for this peer only.
    """
    terms = {"minutes": options.minutes, "lr": options.lr, "validate": options.validate}
    scores, right, orders = [], {}, {}
    for seed in options.seeds:
        config = settings_of(options.config, overrides | protocol(seed, options.validate))
        folder = options.work / _folder_name(peer, options, seed)
        photos = read_photos(config.data, seed=config.seed)
        measure = partial(_measure, fine_tune=fine_tune, photos=photos, options=options)
        scores.append(once(measure, config, folder))
        right[seed] = (folder / RIGHT_FILE).read_text()
        orders[seed] = order_of(photos.subset(scored_split(config)))
    summary = {source: spread([score[source] for score in scores]) for source in scores[0]}
    print(f"{peer} on {options.name}: {scored_split(config)} split, {len(scores)} seeds")
    for source, values in summary.items():
        print(f"{source:20s} {values['mean']:8.3f} ± {values['std']:.3f}")
    document = {"claim": options.name, "peer": peer, "seeds": options.seeds} | terms
    document |= {"scores": scores, "summary": summary, "right": right, "order": orders}
    environment = environment_of(config)
    environment["packages"] |= {name: version(name) for name in packages}
    document["environment"] = environment
    write_document(f"peers_{peer}_{options.name}", document)


def order_of(samples: Sequence[Sample]) -> str:
    """A digest of photographs in their order. Answers may be paired where it is the same."""
    names = [f"{sample.path.parent.name}/{sample.path.name}" for sample in samples]
    return sha256("\n".join(names).encode()).hexdigest()


def _measure(config: Config, folder: Path, *, fine_tune: FineTune, photos: PhotoSet, options: Namespace) -> Scores:
    fabric = start_fabric(config.device, config.precision)
    task = Task(config=config, photos=photos, fabric=fabric, minutes=options.minutes, lr=options.lr)
    outcome = fine_tune(task)
    right = [guess == sample.label for guess, sample in zip(outcome.guesses, task.scored, strict=True)]
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / RIGHT_FILE, "".join("01"[each] for each in right))
    top1 = sum(right) / len(right)
    return {"top1": top1, "epochs": outcome.epochs, "training minutes": outcome.training_minutes}


def _folder_name(peer: str, options: Namespace, seed: int) -> str:
    """Another budget or rate is another folder, so that no score is taken for that of other terms.

    Without dots: `once` replaces what would be a suffix.
    """
    rate = "own" if options.lr is None else f"{options.lr:g}"
    return f"{peer}-{options.minutes:g}min-lr{rate}-{seed}".replace(".", "_")
