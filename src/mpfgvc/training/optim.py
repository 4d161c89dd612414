"""Optimiser, learning-rate schedule, and the moving average of the weights.

The schedule is a pure function of the step, so a resumed run needs no state for it.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from mpfgvc.config import StageConfig
from mpfgvc.training.sharding import copy_into
from mpfgvc.training.stages import ParameterGroup


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
    if settings.optimizer == "sgd":
        return SGD(described, momentum=0.9)
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


class WeightAverage:
    """Exponential moving average of some parameters: average = decay * average + (1 - decay) * weight.

    The decay starts low, (1 + n) / (10 + n) at update n, so that early weights are soon forgotten.
    """

    def __init__(self, parameters: dict[str, nn.Parameter], decay: float):
        self.parameters = parameters
        self.decay = decay
        self.average = {name: weight.detach().clone() for name, weight in parameters.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after optimiser step `step`, counted from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        weights = [weight.detach() for weight in self.parameters.values()]
        torch._foreach_lerp_(list(self.average.values()), weights, 1 - decay)

    def load(self, average: dict[str, Tensor]) -> None:
        """Continue from a stored average."""
        copy_into(self.average, average)

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        """Within the block the parameters hold the average."""
        weights = {name: weight.detach().clone() for name, weight in self.parameters.items()}
        copy_into(self.parameters, self.average)
        try:
            yield
        finally:
            copy_into(self.parameters, weights)
