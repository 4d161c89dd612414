"""A peer: timm's own fine-tuning of the same tower, from the same file, in the same minutes.

    PYTHONPATH=benchmarks python -m peers.timm_recipe --config vit_tiny --name cub50 --minutes 6 ...

timm publishes none for ViT-tiny, so `--recipe` offers two of ViT-B, from the cards of their models: `clip`
(vit_base_patch32_clip_224.laion2b_ft_in1k) and `augreg2` (vit_base_patch16_224.augreg2_in21k_ft_in1k).
From the cards      AdamW, rate, layer decay, clipping, CutMix, RandAugment, drop path, whole image in test.
From card `clip`    moving average and lowest rate. From timm's gists: rates scale with the root of the batch.
From another card   (vit_large_patch14_clip_336.datacompxl_ft_augreg_inat21, fine-grained) weight decay,
                    warm-up from 0, a schedule by updates.
From train.py       label smoothing, crops, mirroring, interpolation, no erasing, `--model-ema-warmup`.
Ours                batches of stage 1's size, warm-up over a tenth of the epochs, no cooldown.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, repeat
from math import sqrt
from typing import Any

import timm
import torch
from PIL import Image
from timm.data import Mixup, create_transform, resolve_data_config
from timm.loss import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.utils import ModelEmaV3, dispatch_clip_grad, random_seed
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from common import parse_settings
from mpfgvc.data.samples import Sample
from peers.protocol import Outcome, StepClock, Task, epochs_within, peer_parser, run_peer

RAND_AUGMENT = "rand-m8-inc1-mstd101"
DROP_PATH = 0.1
CROP_RATIO = 1.0
EMA_DECAY = 0.9998
MIN_LR = 5e-7
WEIGHT_DECAY = 0.01
SMOOTHING = 0.1
WARM_UP = 0.1


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Where timm's published runs differ. `lr` is for `batch_size`, the batch of one GPU; 0 is no CutMix."""

    lr: float
    batch_size: int
    layer_decay: float
    clip: float
    cutmix: float


RECIPES = {
    "clip": Recipe(lr=1e-3, batch_size=1024, layer_decay=0.65, clip=3.0, cutmix=0.0),
    "augreg2": Recipe(lr=2e-4, batch_size=512, layer_decay=0.7, clip=2.0, cutmix=1.0),
}


class Photographs(Dataset[tuple[Tensor, int]]):
    """Photographs as a transform shows them, with their labels."""

    def __init__(self, samples: Sequence[Sample], transform: Any) -> None:
        self.samples, self.transform = samples, transform

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        sample = self.samples[index]
        with Image.open(sample.path) as image:
            return self.transform(image.convert("RGB")), sample.label


class Training:
    """The network and everything that a step changes. It starts from the tower's file and the seed."""

    def __init__(self, task: Task, recipe: Recipe) -> None:
        random_seed(task.config.seed)
        classes = len(task.photos.classes)
        name = task.config.model.image_tower.name
        model = timm.create_model(name, num_classes=classes, drop_path_rate=DROP_PATH, **task.tower)
        self.task, self.recipe, self.model = task, recipe, model.to(task.device)
        self.average = ModelEmaV3(self.model, decay=EMA_DECAY, use_warmup=True)
        self.batch_size = _even(min(task.config.stage1.batch_size, len(task.training)))
        rate = task.lr or recipe.lr * sqrt(self.batch_size / recipe.batch_size)
        decays = {"weight_decay": WEIGHT_DECAY, "layer_decay": recipe.layer_decay}
        self.optimizer = create_optimizer_v2(self.model, opt="adamw", lr=rate, **decays)
        self.mix, self.loss = _targets(recipe, classes)
        self.updates = 0

    def step(self, images: Tensor, labels: Tensor) -> None:
        """One update of the network and of the average of its weights."""
        images, labels = images.to(self.task.device), labels.to(self.task.device)
        if self.mix is not None:
            images, labels = self.mix(images, labels)
        with self.task.autocast():
            logits = self.model(images)
        self.optimizer.zero_grad()
        self.loss(logits.float(), labels).backward()
        dispatch_clip_grad(self.model.parameters(), self.recipe.clip)
        self.optimizer.step()
        self.updates += 1
        self.average.update(self.model, step=self.updates)

    def loader(self) -> DataLoader[tuple[Tensor, int]]:
        """The training photographs in random order, in whole batches."""
        data = resolve_data_config({}, model=self.model)
        transform = create_transform(
            data["input_size"],
            is_training=True,
            auto_augment=RAND_AUGMENT,
            interpolation="random",
            mean=data["mean"],
            std=data["std"],
        )
        photographs, workers = Photographs(self.task.training, transform), self.task.workers
        return DataLoader(
            photographs,
            self.batch_size,
            shuffle=True,
            drop_last=True,
            num_workers=workers,
            persistent_workers=workers > 0,
        )


def main() -> None:
    parser = peer_parser(__doc__)
    parser.add_argument("--recipe", choices=RECIPES, default="clip", help="one of timm's published runs")
    options, overrides = parse_settings(parser)
    run_peer(f"timm-{options.recipe}", partial(fine_tune, recipe=RECIPES[options.recipe]), options, overrides)


def fine_tune(task: Task, *, recipe: Recipe) -> Outcome:
    """The seconds of a step with weights that are thrown away, then the training itself."""
    seconds = _seconds_per_step(Training(task, recipe))
    training = Training(task, recipe)
    loader = training.loader()
    epochs = epochs_within(task.minutes, epoch_seconds=len(loader) * seconds)
    started = time.perf_counter()
    _train(training, loader, epochs)
    minutes = (time.perf_counter() - started) / 60
    return Outcome(epochs=epochs, training_minutes=minutes, guesses=_guesses(training.average.module, task))


def _train(training: Training, loader: DataLoader[tuple[Tensor, int]], epochs: int) -> None:
    training.model.train()
    schedule, _ = create_scheduler_v2(
        training.optimizer,
        num_epochs=epochs,
        min_lr=MIN_LR,
        warmup_lr=0.0,
        warmup_epochs=WARM_UP * epochs,
        step_on_epochs=False,
        updates_per_epoch=len(loader),
    )
    for images, labels in _epochs(loader, epochs):
        training.step(images, labels)
        schedule.step_update(training.updates)


def _epochs(loader: DataLoader[tuple[Tensor, int]], count: int) -> Iterator[tuple[Tensor, Tensor]]:
    return chain.from_iterable(repeat(loader, count))


def _seconds_per_step(training: Training) -> float:
    clock = StepClock()
    training.model.train()
    for images, labels in _epochs(training.loader(), StepClock.WARM_UP + StepClock.COUNTED):
        training.step(images, labels)
        if clock.step_ended():
            break
    return clock.seconds


@torch.no_grad()
def _guesses(model: nn.Module, task: Task) -> list[int]:
    data = resolve_data_config({"crop_pct": CROP_RATIO}, model=model)
    photographs = Photographs(task.scored, create_transform(**data))
    guesses: list[int] = []
    for images, _ in DataLoader(photographs, batch_size=64, num_workers=task.workers):
        with task.autocast():
            guesses += model.eval()(images.to(task.device)).argmax(dim=1).tolist()
    return guesses


def _targets(recipe: Recipe, classes: int) -> tuple[Mixup | None, nn.Module]:
    """What mixes a batch, if anything, and the loss that fits its labels."""
    if recipe.cutmix == 0:
        return None, LabelSmoothingCrossEntropy(SMOOTHING)
    mix = Mixup(mixup_alpha=0.0, cutmix_alpha=recipe.cutmix, label_smoothing=SMOOTHING, num_classes=classes)
    return mix, SoftTargetCrossEntropy()


def _even(count: int) -> int:
    """CutMix pairs the photographs of a batch."""
    return count - count % 2


if __name__ == "__main__":
    main()
