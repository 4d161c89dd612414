"""The one training loop. It trains any stage, on one process or many, and can be killed anywhere.

A step depends only on the weights, the optimiser's state and (seed, stage, step): the order of the
photographs, their augmentation and the network's own randomness all follow from these. So a run that
continues from a checkpoint ends with the same bits as a run that was never stopped. The learning rate is
a pure function of the step, so it needs no state.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from itertools import chain, count, islice
from typing import Any, Protocol, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.optim import AdamW, Optimizer

from mpfgvc.config import StageConfig
from mpfgvc.distributed import send
from mpfgvc.errors import ConfigError
from mpfgvc.evaluation.metrics import Evaluation
from mpfgvc.processes import seed_of
from mpfgvc.run_folder import RunFolder
from mpfgvc.training.checkpoint import TrainingState, save_state
from mpfgvc.training.log import MetricLog
from mpfgvc.training.sharding import Placement, copy_into, gathered, local, shares_of_state
from mpfgvc.training.signs import EarlySigns, EpochFacts
from mpfgvc.training.stages import ParameterGroup, Stage

LARGEST_NORM = 1.0
"""Of the gradient; a larger one is scaled down."""
Validate = Callable[[], Evaluation]
"""Evaluates the weights as they are."""
Batch = tuple[Tensor, Tensor]
"""Inputs and labels."""


class TrainingBatches(Protocol):
    """Where a stage's batches come from."""

    @property
    def steps(self) -> int:
        """Batches of a whole epoch."""

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """Inputs and labels of an epoch's batches from `first_step` on."""


@dataclass(frozen=True, kw_only=True)
class Session:
    """What both stages of a run share. `log` and `signs` are None on all ranks but 0."""

    fabric: Fabric
    folder: RunFolder
    log: MetricLog | None
    seed: int
    checkpoint_steps: int
    compile: bool = False
    signs: EarlySigns | None = None


class Loop:
    """Trains one stage to its end, from the state that a checkpoint left.

    `validate` evaluates the weights as they are; None if there is nothing to validate on.
    """

    def __init__(
        self,
        stage: Stage,
        batches: TrainingBatches,
        session: Session,
        *,
        validate: Validate | None,
        state: TrainingState,
    ):
        self.stage, self.batches, self.settings = stage, batches, stage.settings
        self.session, self.validate, self.state = session, validate, state
        self.fabric, self.log = session.fabric, session.log
        if session.compile and stage.compiles:
            stage.compile()
        self.placement = Placement(stage, self.fabric)
        placed = self.placement.module
        self.wrapped = self.fabric.setup_module(placed)
        self.weights = placed.trained()
        optimizer = build_optimizer(placed.parameter_groups(), self.settings)
        self.optimizer = cast("Optimizer", self.fabric.setup_optimizers(optimizer))
        self.total_steps = self.settings.epochs * batches.steps
        precise = torch.float32 if self.fabric.device.type == "mps" else torch.float64
        self.sums = torch.zeros(3, device=self.fabric.device, dtype=precise)
        self.guesses: list[Tensor] = []
        self.classes = 0

    def run(self) -> dict[str, Tensor]:
        """Train to the end and return the trained weights, which the stage then holds."""
        self._restore()
        with self._progress():
            while self.state.step < self.total_steps and not self._is_stale():
                self._train_epoch(*divmod(self.state.step, self.batches.steps))
        if self.state.best:
            copy_into(self.weights, self.state.best)
        self.placement.put_back()
        return {name: weight.detach().cpu().clone() for name, weight in self.stage.trained().items()}

    def rehearse(self, steps: int) -> list[float]:
        """Do a few steps without log and checkpoint; the seconds of each, with the wait for its batch."""
        self.wrapped.train()
        epochs = chain.from_iterable(self.batches.epoch(number) for number in count())
        seconds, asked = [], time.perf_counter()
        for inputs, labels in islice(epochs, steps):
            self._train_step(send(inputs, self.fabric.device), send(labels, self.fabric.device))
            self.state.step += 1
            self._refuse_divergence()  # waits for the device
            seconds.append(time.perf_counter() - asked)
            asked = time.perf_counter()
        return seconds

    def _progress(self) -> AbstractContextManager[None]:
        """The bar of the stage."""
        if self.log is None:
            return nullcontext()
        size, done = self.settings.batch_size, self.state.step
        return self.log.progress(self.stage.name, total=self.total_steps * size, done=done * size)

    def _train_epoch(self, epoch: int, first_step: int) -> None:
        self.wrapped.train()
        started, waits = time.perf_counter(), list[float]()
        for inputs, labels in _watched(self.batches.epoch(epoch, first_step), waits):
            self._train_step(send(inputs, self.fabric.device), send(labels, self.fabric.device))
            self.state.step += 1
            self._show_progress()
            ends_epoch = self.state.step % self.batches.steps == 0
            if self.state.step % self.session.checkpoint_steps == 0 and not ends_epoch:
                self._save()
        self._refuse_divergence()  # waits for the device, so the clock stops when its work is done
        seconds = time.perf_counter() - started
        steps = self.batches.steps - first_step
        predicted = self._predicted()
        row = self._end_epoch(epoch, seconds, steps * self.settings.batch_size / seconds)
        if self.session.signs is not None and self.log is not None:
            facts = EpochFacts(
                stage=self.stage.name,
                epoch=epoch + 1,
                first_loss=self.log.first_loss(self.stage.name),
                loss=row["loss"],
                accuracy=row["accuracy"],
                predicted=predicted if first_step == 0 else None,
                waited=sum(waits[1:]),
                seconds=seconds - waits[0],
                steps=steps,
            )
            self.session.signs.look(facts, self.settings)

    def _train_step(self, inputs: Tensor, labels: Tensor) -> None:
        """One optimiser step, in the micro-batches of the stage; nothing here waits for the device."""
        torch.manual_seed(seed_of(self.session.seed, self.stage.name, self.state.step, self.fabric.global_rank))
        warmup = round(self.settings.warmup_epochs * self.batches.steps)
        set_learning_rate(self.optimizer, schedule(self.state.step, warmup=warmup, total=self.total_steps))
        number = self.stage.micro_batches
        parts = list(zip(inputs.chunk(number), labels.chunk(number), strict=True))
        for index, (part, part_labels) in enumerate(parts):
            waits = index < len(parts) - 1 and not self.placement.is_sharded  # whole gradients take memory
            with self.fabric.no_backward_sync(self.wrapped, enabled=waits):
                result = self.wrapped(part, part_labels)
                self.fabric.backward(result.loss * (len(part) / len(inputs)))
            guesses = result.logits.detach().argmax(dim=1)
            self.guesses.append(guesses)
            self.classes = result.logits.shape[1]
            right = (guesses == part_labels).sum()
            seen = torch.full_like(right, len(part))
            self.sums += torch.stack([result.loss.detach() * len(part), right, seen])
        # Else Fabric would wait for the norm to see whether it is finite; _refuse_divergence does.
        self.fabric.clip_gradients(self.wrapped, self.optimizer, max_norm=LARGEST_NORM, error_if_nonfinite=False)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def _predicted(self) -> list[int]:
        """How often each class was predicted in the epoch, by all processes."""
        counts = torch.cat(self.guesses).cpu().bincount(minlength=self.classes)
        self.guesses.clear()
        total = self.fabric.all_reduce(counts.to(self.fabric.device), reduce_op="sum")
        return total.tolist()  # type: ignore[union-attr]

    def _end_epoch(self, epoch: int, seconds: float, images_per_second: float) -> dict[str, Any]:
        """Validate, log and save; returns the row of the epoch."""
        loss, right, seen = self.fabric.all_reduce(self.sums.clone(), reduce_op="sum").tolist()  # type: ignore[union-attr]
        row: dict[str, Any] = {
            "stage": self.stage.name,
            "epoch": epoch + 1,
            "step": self.state.step,
            "loss": loss / seen,
            "accuracy": right / seen,
            "images_per_second": images_per_second,
            "seconds": seconds,
        }
        if self.validate is not None:
            with self.placement.gathered():
                sources = self.validate().sources
            row |= {f"validation_{source}": metrics.top1 for source, metrics in sources.items()}
            self._keep_if_best(sum(metrics.top1 for metrics in sources.values()) / len(sources))
        self.sums.zero_()
        if self.log is not None:
            self.log.epoch(row)
        self._save()
        return row

    def _keep_if_best(self, accuracy: float) -> None:
        """Remember the weights if early stopping may want them back."""
        if self.settings.patience is None:
            return
        self.state.stale_epochs += 1
        if accuracy > self.state.best_accuracy:
            self.state.best_accuracy, self.state.stale_epochs = accuracy, 0
            self.state.best = {name: weight.detach().cpu().clone() for name, weight in self.weights.items()}

    def _is_stale(self) -> bool:
        return self.settings.patience is not None and self.state.stale_epochs >= self.settings.patience

    def _refuse_divergence(self) -> None:
        """Raise ConfigError if a weight is NaN or infinite; the last checkpoint stays as it is."""
        norms = torch._foreach_norm([local(weight.detach()) for weight in self.weights.values()])
        if not self.fabric.all_reduce(torch.stack(norms).sum(), reduce_op="sum").isfinite():  # type: ignore[union-attr]
            happened = f"{self.stage.name} diverged before step {self.state.step}, its weights are not finite"
            raise ConfigError(f"{self.stage.remedy}: {happened}; start a new run with another --out")

    def _save(self) -> None:
        self._refuse_divergence()
        whole = gathered(vars(self.snapshot()), keep=self.log is not None)
        if self.log is not None:
            save_state(self.session.folder.checkpoint, TrainingState(**whole))

    def snapshot(self) -> TrainingState:
        """What a checkpoint holds now; spread tensors are still spread. All processes take part."""
        sums = self.fabric.all_reduce(self.sums.clone(), reduce_op="sum")
        return replace(
            self.state,
            weights={name: weight.detach() for name, weight in self.weights.items()},
            optimizer=self.optimizer.state_dict(),
            sums=sums.tolist(),  # type: ignore[union-attr]
            rows=[] if self.log is None else [dict(row) for row in self.log.rows],
        )

    def _restore(self) -> None:
        if not self.state.weights:
            return
        copy_into(self.weights, self.state.weights)
        self.optimizer.load_state_dict(shares_of_state(self.optimizer, self.state.optimizer))
        if self.fabric.global_rank == 0:
            self.sums += torch.tensor(self.state.sums, device=self.sums.device)
        self.state.weights, self.state.optimizer = {}, {}

    def _show_progress(self) -> None:
        """Advance the bar; read the sums from the device, which waits for it, only now and then."""
        if self.log is None:
            return
        self.log.step(self.settings.batch_size)
        if self.state.step % 10 == 0 or self.fabric.device.type == "cpu":
            loss, right, seen = self.sums.tolist()
            self.log.show(loss=f"{loss / seen:.3f}", accuracy=f"{right / seen:.3f}")


def _watched(batches: Iterator[Batch], waits: list[float]) -> Iterator[Batch]:
    """The same batches; the seconds that each was waited for are added to `waits`."""
    while True:
        asked = time.perf_counter()
        batch = next(batches, None)
        waits.append(time.perf_counter() - asked)
        if batch is None:
            return
        yield batch


def build_optimizer(groups: Sequence[ParameterGroup], settings: StageConfig) -> Optimizer:
    """The optimiser of a stage; each group remembers its peak rate as `peak_lr`."""
    described: list[dict[str, Any]] = [
        {
            "params": group.parameters,
            "lr": group.lr,
            "peak_lr": group.lr,
            "weight_decay": settings.weight_decay if group.decays else 0.0,
        }
        for group in groups
    ]
    return AdamW(described, fused=True)  # one pass over the weights instead of ten


def schedule(step: int, *, warmup: int, total: int) -> float:
    """Share of the peak learning rate at a step: linear warm-up, then half a cosine to zero. 0..1."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, total - warmup))))


def set_learning_rate(optimizer: Optimizer, scale: float) -> None:
    """Set every group to `scale` times its peak rate."""
    for group in optimizer.param_groups:
        group["lr"] = scale * group["peak_lr"]
