"""The objectives of both stages (section 4), as pure functions.

    L_v      = CE(classifier(V), y)
    L_i2t    = -log( exp(cos(V, T^y)/tau) / sum_c exp(cos(V, T^c)/tau) ) = CE(cos(V, T)/tau, y)
    L_stage1 = L_v + L_i2t
    L_stage2 = L_vlfm = CE(fusion classifier, y)

Beyond the paper, both off by default: label smoothing, and weights that make
up for imbalance. The mean is over the batch, not over the weights, so that a
batch split over processes has the same gradient as the whole.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


class Objective(NamedTuple):
    """How targets are spread: smoothing in 0..1, and a weight for each class (None = equal)."""

    label_smoothing: float = 0.0
    class_weights: Float[Tensor, " classes"] | None = None


def classification_loss(
    logits: Float[Tensor, "batch classes"], labels: Int[Tensor, " batch"], objective: Objective
) -> Float[Tensor, ""]:
    """Mean cross-entropy over the batch: L_v on vision, L_i2t on text, L_vlfm on fusion logits."""
    losses = F.cross_entropy(logits, labels, label_smoothing=objective.label_smoothing, reduction="none")
    if objective.class_weights is not None:
        losses = losses * objective.class_weights[labels]
    return losses.mean()


def balanced_weights(counts: Int[Tensor, " classes"]) -> Float[Tensor, " classes"]:
    """Weight of each class: the inverse of its count, scaled to mean 1 over the photographs; 0 if empty."""
    present = counts > 0
    weights = torch.where(present, counts.sum() / (present.sum() * counts.clamp(min=1)), 0.0)
    return weights.float()
