"""What a plan asks of the training: its stages, and how long its start from features takes.

The wings `scale` and `training` do not import each other. `training/planned.py` answers these questions, and
the command hands it over.
"""

from typing import Protocol

from torch import Tensor, nn
from torch.optim import Optimizer

from mpfgvc.config import Config, StageConfig
from mpfgvc.model.network import MPFGVC


class PlannedStage(Protocol):
    """A stage as a plan uses it."""

    @property
    def module(self) -> nn.Module:
        """The stage with its network."""

    def units(self) -> list[nn.Module]:
        """Modules whose weights are gathered one at a time where they are spread over processes."""

    def loss(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """The loss of a batch."""

    def optimizer(self) -> Optimizer:
        """A new optimiser of what it trains."""


class Training(Protocol):
    """The training of one run."""

    regression_steps: int
    """Most steps of the logistic regression of `stage1.start: features`."""
    feature_steps: int
    """Steps of its projection and prompts."""

    def stage1(self, network: MPFGVC, config: Config) -> PlannedStage:
        """Stage 1 on a network."""

    def stage2(self, network: MPFGVC, text_features: Tensor, config: Config) -> PlannedStage:
        """Stage 2 on a network."""

    def feature_batch(self, photographs: int) -> int:
        """Embeddings in a step of the start from features."""

    def check_batches(self, settings: StageConfig, processes: int) -> None:
        """Refuse a batch that cannot be divided among the processes. Raises ConfigError."""
