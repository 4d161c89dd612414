"""`stage1.start: features`: the new parts of stage 1 start from what the untrained tower already knows.

The embeddings of the training photographs are computed once, as in stage 2. On them the classifier becomes
the multinomial logistic regression (the linear probe), and projection and prompts are trained by L_i2t:
seconds, as no image goes through the tower. With `stage1.epochs: 0` this is all that is trained: the method
on a frozen tower. It runs through the same loop as the stages: logged, resumed and spread over processes.

    min over (H, b) of  L_v(H z + b, y) + penalty / 2 * |H|^2      z = standardised embeddings

L_v is stage 1's loss, with its class weights and label smoothing. Convex, full batch, by L-BFGS in float64
from zero: no random numbers, so every process finds the same.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from mpfgvc.config import StageConfig
from mpfgvc.model.losses import Objective, classification_loss
from mpfgvc.model.network import MPFGVC
from mpfgvc.processes import Processes
from mpfgvc.training.stages import ALONE, ParameterGroup, Stage, StepResult, split_by_decay, text_features

PENALTY = 1e-2
"""Chosen on held-out photographs of CUB_50 (benchmarks/LOG.md)."""
MOST_STEPS = 300


def fit_logistic_regression(
    classifier: nn.Linear,
    embeddings: Float[Tensor, "photographs width"],
    labels: Int[Tensor, " photographs"],
    *,
    objective: Objective | None = None,
    penalty: float = PENALTY,
    most_steps: int = MOST_STEPS,
) -> None:
    """Set a linear classifier to the logistic regression on `embeddings`, in place."""
    smoothing, weights = objective or Objective()
    objective = Objective(smoothing, None if weights is None else weights.cpu().double())
    vectors = embeddings.detach().cpu().double()
    mean, std = vectors.mean(dim=0), vectors.std(dim=0).clamp(min=1e-6)
    standardised = (vectors - mean) / std
    weight = torch.zeros(classifier.out_features, vectors.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(classifier.out_features, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=most_steps, tolerance_grad=1e-6, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = classification_loss(F.linear(standardised, weight, bias), labels.cpu(), objective)
        loss = loss + penalty / 2 * weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    with torch.enable_grad():
        optimizer.step(closure)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        classifier.weight.copy_(weight / std)
        classifier.bias.copy_(bias - (weight / std) @ mean)


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

    def __init__(self, network: MPFGVC, objective: Objective, processes: Processes = ALONE):
        super().__init__()
        network.requires_grad_(False)
        network.projection.requires_grad_(True)
        network.prompts.context.requires_grad_(True)
        self.network = network
        self.settings = SETTINGS
        self.objective = objective
        self.processes = processes

    def units(self) -> list[nn.Module]:
        """The blocks of the towers; those of the image tower stay spread."""
        return self.network.units()

    def forward(self, embeddings: Float[Tensor, "batch width"], labels: Int[Tensor, " batch"]) -> StepResult:
        """L_i2t of a batch of embeddings."""
        logits = self.network.text_logits(embeddings, text_features(self.network.prompts, self.processes))
        return StepResult(classification_loss(logits, labels, self.objective), logits)

    def parameter_groups(self) -> list[ParameterGroup]:
        """Projection and prompts at one rate."""
        return split_by_decay(self.trained().items(), self.settings.lr)
