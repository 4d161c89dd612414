"""What `mpfgvc plan` needs to know of a training: its stages, optimisers, and the steps of its start."""

from torch import Tensor, nn
from torch.optim import Optimizer

from mpfgvc.config import Config, StageConfig
from mpfgvc.model.losses import Objective
from mpfgvc.model.network import MPFGVC
from mpfgvc.training.feature_start import STEPS, batch_size_of
from mpfgvc.training.logistic_regression import MOST_STEPS
from mpfgvc.training.open_run import refuse_uneven_batch
from mpfgvc.training.optim import build_optimizer
from mpfgvc.training.stages import Stage, Stage1, Stage2


class PlannedStage:
    """A stage whose steps are counted, not trained."""

    def __init__(self, module: Stage):
        self.module = module

    def units(self) -> list[nn.Module]:
        """Modules whose weights are gathered one at a time where they are spread over processes."""
        return self.module.units()

    def loss(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """The loss of a batch."""
        loss: Tensor = self.module(inputs, labels).loss
        return loss

    def optimizer(self) -> Optimizer:
        """A new optimiser of what the stage trains."""
        return build_optimizer(self.module.parameter_groups(), self.module.settings)


class PlannedTraining:
    """The training of one run, as a plan asks for it (scale/seam.py)."""

    regression_steps = MOST_STEPS
    feature_steps = STEPS

    def stage1(self, network: MPFGVC, config: Config) -> PlannedStage:
        """Stage 1 on a network that still has its class prompts."""
        return PlannedStage(Stage1(network, config.stage1, Objective(config.stage1.label_smoothing)))

    def stage2(self, network: MPFGVC, text_features: Tensor, config: Config) -> PlannedStage:
        """Stage 2 on the fusion of a network."""
        objective = Objective(config.stage2.label_smoothing)
        return PlannedStage(Stage2(network.fusion, text_features, config.stage2, objective))

    def feature_batch(self, photographs: int) -> int:
        """Embeddings in a step of the start from features, over all processes."""
        return batch_size_of(photographs)

    def check_batches(self, settings: StageConfig, processes: int) -> None:
        """Refuse a batch that cannot be divided among the processes. Raises ConfigError."""
        refuse_uneven_batch(settings, processes)
