"""A sampled softmax for thousands of classes, beyond the paper and off by default.

    L_i2t over all C classes       -s_y + log( sum_c exp(s_c) )
    over a sample                  -s_y + log( sum over the batch's own classes exp(s_c)
                                               + (C - P) / n  sum over n of the others exp(s_c) )

P of the C classes occur in the batch. The sum inside the logarithm is estimated
without bias, so its logarithm, and with it the loss, is on average slightly too
low (Jensen), by about the estimate's relative variance over 2; that falls as 1 / n.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mpfgvc.training.spread_prompts import ALONE, Spread


class ClassSample(NamedTuple):
    """Some classes, what to add to their logits, and where the labels of the batch are among them."""

    classes: Int[Tensor, " sampled"]
    correction: Float[Tensor, " sampled"]
    labels: Int[Tensor, " batch"]


def sample_classes(
    labels: Int[Tensor, " batch"], *, count: int, classes: int, spread: Spread = ALONE
) -> ClassSample:
    """`count` of `classes` classes: all that occur in `labels`, the others at random.

    Draws from torch's global generator. `count` must be larger than the batch and at most
    `classes`. Shapes do not depend on the labels, and nothing waits for the device.

    Processes that encode the prompts together draw one sample, for the batch of all of them.
    """
    keys = spread.of_first(torch.rand(classes, device=labels.device))
    present = torch.zeros(classes, dtype=torch.bool, device=labels.device)
    present = present.index_fill(0, spread.of_all(labels), True)
    chosen = (keys + present).topk(count).indices
    own = present.sum()
    stands_for = torch.log((classes - own) / (count - own))
    correction = torch.where(present[chosen], 0.0, stands_for)
    places = torch.zeros(classes, dtype=torch.long, device=labels.device)
    places[chosen] = torch.arange(count, device=labels.device)
    return ClassSample(chosen, correction, places[labels])
