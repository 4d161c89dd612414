"""Where the fusion module starts: from the classifier and the texts of stage 1 (beyond the paper).

The paper names no initialisation. This one stays inside the module's equations. With stage 1's projection
(P, p) and classifier (W, b), unit class texts T_c, and n the mean norm of P V + p over training photographs:

    Q = V + q    K_c = sqrt(D) P^T T_c / (tau n)    q with P q = p: Q K_c / sqrt(D) is stage 1's text logit
    K_0          one vector, fitted so that the image gets about half of the attention
    V_0 = V / (mean own share)                      so W V_0 are stage 1's vision logits
    V_c          W V_c = loudness height (e_c - 1 / C) / (mean text share): a text speaks for its own class
    Trans        the identity, as GELU(x) - GELU(-x) = x; it takes two of the four widths

`height` is how far the best vision logit stands above the mean. With `loudness` 1 vision and text start
equally loud; a larger one trusts the texts more, as good descriptions deserve.
"""

import math
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mpfgvc.model.fusion import Fusion
from mpfgvc.model.network import MPFGVC
from mpfgvc.model.prompts import ClassEmbeddings

SMALLEST = 1e-3
"""Singular values below this share of the largest count as zero where a system of equations is solved."""
MOST_EMBEDDINGS = 4096
"""Embeddings that the means and the fit look at, evenly spaced: memory does not grow with the photographs."""


@torch.no_grad()
def start_fusion(
    network: MPFGVC, embeddings: Float[Tensor, "photographs width"], *, loudness: float = 1.0
) -> None:
    """Set the fusion module of a deployed network that stage 1 trained, in place, without random numbers.

    Its class texts become unit vectors, as only their direction was trained. `embeddings` are those of
    training photographs. The module must not have the option `norm`.
    """
    fusion = network.fusion
    network.text = ClassEmbeddings(F.normalize(network.text(), dim=-1))
    vectors, texts = _exact(embeddings[:: -(-len(embeddings) // MOST_EMBEDDINGS)]), _exact(network.text())
    root = math.sqrt(vectors.shape[1])
    weight, bias = _projection(network)
    norm = F.linear(vectors, weight, bias).norm(dim=1).mean()
    offset = torch.linalg.pinv(texts @ weight, rtol=SMALLEST) @ (texts @ bias)
    queries = vectors + offset
    keys = weight.T * (root / (network.temperature * norm))
    text_scores = (queries @ keys @ texts.T / root).logsumexp(dim=1)
    own_key = torch.linalg.pinv(queries / root, rtol=SMALLEST) @ text_scores
    own_share = (queries @ own_key / root - text_scores).sigmoid().mean()

    identity = torch.eye(vectors.shape[1], dtype=vectors.dtype)
    _set(fusion.query, identity, offset)
    _set(fusion.key, torch.zeros_like(identity), own_key)
    _set(fusion.value, identity / own_share)
    _set(fusion.text_key, keys)
    _set(fusion.text_value, loudness * _text_values(network, vectors, texts) / (1 - own_share))
    _set_transform(fusion, identity)
    _set(fusion.classifier, network.classifier.weight, network.classifier.bias)


def _exact(tensor: Tensor) -> Tensor:
    """In float64 on the CPU, which every machine has."""
    return tensor.cpu().double()


def _projection(network: MPFGVC) -> tuple[Float[Tensor, "embed width"], Float[Tensor, " embed"]]:
    """P and p; P is the identity where there is no projection, p is zero where it has no bias."""
    layer, zero = network.projection, torch.zeros(network.embed, dtype=torch.float64)
    if not isinstance(layer, nn.Linear):
        return torch.eye(network.embed, dtype=torch.float64), zero
    return _exact(layer.weight), zero if layer.bias is None else _exact(layer.bias)


def _text_values(
    network: MPFGVC, vectors: Float[Tensor, "photographs width"], texts: Float[Tensor, "classes embed"]
) -> Float[Tensor, "width embed"]:
    """The map from texts to values with W V_c = height (e_c - 1 / C), as nearly as the widths allow."""
    weight = _exact(network.classifier.weight)
    logits = F.linear(vectors, weight, _exact(network.classifier.bias))
    height = (logits.amax(dim=1) - logits.mean(dim=1)).mean()
    wanted = torch.eye(len(texts), dtype=texts.dtype) - 1 / len(texts)
    inverse = torch.linalg.pinv(weight, rtol=SMALLEST)
    values: Tensor = height * inverse @ wanted @ torch.linalg.pinv(texts, rtol=SMALLEST).T
    return values


def _set_transform(fusion: Fusion, identity: Float[Tensor, "width width"]) -> None:
    """The identity. Other hidden units stay as they are."""
    both = torch.cat([identity, -identity])
    first, last = _linear(fusion.transform[0]), _linear(fusion.transform[2])
    first.weight[: len(both)] = both.to(first.weight)
    first.bias.zero_()
    _set(last, torch.zeros_like(last.weight))
    last.weight[:, : len(both)] = both.T.to(last.weight)


def _linear(layer: nn.Module) -> nn.Linear:
    """The layer with its type, which a Sequential does not tell."""
    return cast(nn.Linear, layer)


def _set(
    layer: nn.Linear, weight: Float[Tensor, "outputs inputs"], bias: Float[Tensor, " outputs"] | None = None
) -> None:
    layer.weight.copy_(weight)
    layer.bias.zero_() if bias is None else layer.bias.copy_(bias)
