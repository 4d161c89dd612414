"""A peer: fastai's `fine_tune` of the same tower, from the same file, in the same minutes.

    PYTHONPATH=benchmarks python -m peers.fastai_fine_tune --config vit_tiny --name cub50 --minutes 6 ...

fastai's defaults   `vision_learner` with its head, Adam, weight decay, batches of 64, the tower's mean and
                    deviation, `aug_transforms()` for batches. `fine_tune`: an epoch with the tower frozen at
                    2e-3, then one-cycle over all layers, 1e-3 for the head, a hundredth of it for the tower.
fastai's book       `RandomResizedCrop(224, min_scale=0.5)` for photographs (chapter 2).
Ours                bf16 on a CPU, which fastai's `to_bf16` does on GPUs only; fp32 would cost it epochs. No
                    validation between epochs, so that it takes no minutes.
"""

import time
from contextlib import AbstractContextManager
from operator import attrgetter

from fastai.callback.core import CancelFitException, CancelValidException
from fastai.vision.all import (
    Callback,
    CategoryBlock,
    CrossEntropyLossFlat,
    DataBlock,
    DataLoaders,
    ImageBlock,
    IndexSplitter,
    Learner,
    RandomResizedCrop,
    aug_transforms,
    set_seed,
    to_float,
    vision_learner,
)

from common import parse_settings
from peers.protocol import Outcome, StepClock, Task, epochs_within, peer_parser, run_peer

BASE_LR = 2e-3
"""The default of `fine_tune`."""
MIN_SCALE = 0.5


class Autocast(Callback):
    """The forward pass in the precision of the settings; the loss in fp32."""

    def __init__(self, task: Task) -> None:
        self.task = task

    def before_batch(self) -> None:
        self.context: AbstractContextManager[None] = self.task.autocast()
        self.context.__enter__()

    def after_pred(self) -> None:
        self.context.__exit__(None, None, None)
        self.learn.pred = to_float(self.pred)


class NoValidation(Callback):
    def before_validate(self) -> None:
        raise CancelValidException


class Timer(Callback):
    """Ends the training as soon as the clock has seen enough."""

    def __init__(self, clock: StepClock) -> None:
        self.clock = clock

    def after_batch(self) -> None:
        if self.clock.step_ended():
            raise CancelFitException


def main() -> None:
    options, overrides = parse_settings(peer_parser(__doc__))
    run_peer("fastai", fine_tune, options, overrides, packages=("fastai", "fastcore"))


def fine_tune(task: Task) -> Outcome:
    """Both halves of `fine_tune` by their own seconds, then the training itself from new weights."""
    learner = build_learner(task)
    steps = len(learner.dls.train)
    learner.freeze()
    frozen_seconds = steps * _seconds_per_step(learner)
    learner.unfreeze()
    epoch_seconds = steps * _seconds_per_step(learner)
    epochs = epochs_within(task.minutes, epoch_seconds=epoch_seconds, first_seconds=frozen_seconds)
    learner = build_learner(task)
    started = time.perf_counter()
    with learner.no_bar(), learner.no_logging():
        learner.fine_tune(epochs, base_lr=task.lr or BASE_LR, cbs=NoValidation())
    minutes = (time.perf_counter() - started) / 60
    return Outcome(epochs=epochs, training_minutes=minutes, guesses=_guesses(learner, task))


def build_learner(task: Task) -> Learner:
    """A learner that starts from the tower's file and the seed."""
    set_seed(task.config.seed, reproducible=True)
    return vision_learner(
        photographs(task),
        task.config.model.image_tower.name,
        loss_func=CrossEntropyLossFlat(),
        cbs=Autocast(task),
        **task.tower,
    )


def photographs(task: Task) -> DataLoaders:
    """The training photographs. There is no validation split."""
    block = DataBlock(
        blocks=(ImageBlock, CategoryBlock(vocab=task.photos.classes, sort=False)),
        get_x=attrgetter("path"),
        get_y=lambda sample: task.photos.classes[sample.label],
        splitter=IndexSplitter([]),
        item_tfms=RandomResizedCrop(task.tower["img_size"], min_scale=MIN_SCALE),
        batch_tfms=aug_transforms(),
    )
    batch_size = min(64, len(task.training))
    return block.dataloaders(task.training, bs=batch_size, num_workers=task.workers, device=task.device)


def _seconds_per_step(learner: Learner) -> float:
    clock = StepClock()
    with learner.no_bar(), learner.no_logging():
        learner.fit(StepClock.WARM_UP + StepClock.COUNTED, cbs=[NoValidation(), Timer(clock)])
    return clock.seconds


def _guesses(learner: Learner, task: Task) -> list[int]:
    loader = learner.dls.test_dl(task.scored, num_workers=task.workers)
    with learner.no_bar():
        probabilities, _ = learner.get_preds(dl=loader)
    return [int(guess) for guess in probabilities.argmax(dim=1)]


if __name__ == "__main__":
    main()
