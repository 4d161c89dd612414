"""Multinomial logistic regression on embeddings, to convergence: the linear probe.

    min over (H, b) of  L_v(H z + b, y) + penalty / 2 * |H|^2      z = standardised embeddings

L_v is stage 1's loss, with its class weights and label smoothing. Convex, full batch, by L-BFGS in float64
from zero: no random numbers, so every process finds the same.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from mpfgvc.model.losses import Objective, classification_loss

PLAIN = Objective()
"""Every photograph weighs the same, and no smoothing."""
PENALTY = 1e-2
"""Chosen on held-out photographs of CUB_50 (benchmarks/LOG.md)."""
MOST_STEPS = 300


def fit_logistic_regression(
    classifier: nn.Linear,
    embeddings: Float[Tensor, "photographs width"],
    labels: Int[Tensor, " photographs"],
    *,
    objective: Objective = PLAIN,
    penalty: float = PENALTY,
) -> None:
    """Set a linear classifier to the logistic regression on `embeddings`, in place."""
    weights = None if objective.class_weights is None else objective.class_weights.cpu().double()
    objective = objective._replace(class_weights=weights)
    vectors = embeddings.detach().cpu().double()
    mean, std = vectors.mean(dim=0), vectors.std(dim=0).clamp(min=1e-6)
    standardised = (vectors - mean) / std
    weight = torch.zeros(classifier.out_features, vectors.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(classifier.out_features, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=MOST_STEPS, tolerance_grad=1e-6, line_search_fn="strong_wolfe"
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
