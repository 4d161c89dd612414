"""`stage1.start: features`: the new parts of stage 1 start from what the untrained tower already knows.

The embeddings of the training photographs are computed once, as in stage 2. On them the classifier becomes
the logistic regression, and projection and prompts are trained by L_i2t: seconds, as no image goes through
the tower. With `stage1.epochs: 0` this is all that is trained: the method on a frozen tower.

It runs through the same loop as the stages, so it is logged, resumed and spread over processes like them.
"""

from collections.abc import Iterator
from itertools import count, islice

from jaxtyping import Float, Int
from torch import Tensor, nn

from mpfgvc.config import StageConfig
from mpfgvc.model.losses import Objective, classification_loss
from mpfgvc.model.network import MPFGVC
from mpfgvc.training.embedding_batches import EmbeddingLoader
from mpfgvc.training.optim import ParameterGroup, split_by_decay
from mpfgvc.training.spread_prompts import ALONE, Spread
from mpfgvc.training.stages import Stage, StepResult

STEPS = 200
SETTINGS = StageConfig(epochs=1, batch_size=512, lr=3e-3, weight_decay=0.0, warmup_epochs=0.05)
"""Tried on held-out photographs of CUB_50 and on birds of another seed (benchmarks/LOG.md)."""


def batch_size_of(photographs: int) -> int:
    """The largest power of two that is at most their number and SETTINGS.batch_size.

    So two, four or eight processes get equal shares of a batch, and the same gradient as one.
    """
    return 1 << (min(photographs, SETTINGS.batch_size).bit_length() - 1)


class FeatureStart(Stage):
    """Trains projection and prompts of a network on embeddings; the classifier is fitted before."""

    name = "features"
    sources = ("text",)
    compiles = False
    remedy = "stage1.start must be random"

    def __init__(self, network: MPFGVC, objective: Objective, spread: Spread = ALONE):
        super().__init__()
        network.requires_grad_(False)
        network.projection.requires_grad_(True)
        network.prompts.context.requires_grad_(True)
        self.network = network
        self.settings = SETTINGS
        self.objective = objective
        self.spread = spread

    def units(self) -> list[nn.Module]:
        """The blocks of the towers; those of the image tower stay spread."""
        return self.network.units()

    def forward(self, embeddings: Float[Tensor, "batch width"], labels: Int[Tensor, " batch"]) -> StepResult:
        """L_i2t of a batch of embeddings."""
        logits = self.network.text_logits(embeddings, self.spread.text_features(self.network.prompts))
        return StepResult(classification_loss(logits, labels, self.objective), logits)

    def parameter_groups(self) -> list[ParameterGroup]:
        """Projection and prompts at one rate."""
        return split_by_decay(self.trained().items(), self.settings.lr)


class OneLongEpoch:
    """Batches of embeddings over as many epochs as `steps` need, taken as one epoch."""

    def __init__(self, loader: EmbeddingLoader, *, steps: int = STEPS):
        self.loader = loader
        self.steps = steps

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches from `first_step` on."""
        inner, skipped = divmod(first_step, self.loader.steps)
        batches = (
            batch
            for number in count(inner)
            for batch in self.loader.epoch(number, skipped if number == inner else 0)
        )
        return islice(batches, self.steps - first_step)
