"""Vision-language fusion module (VLFM, section 3): the image queries itself and all class texts.

    Q_0, K_0, V_0 = projections of E_V;   K_c, V_c = projections of E_T^c
    S    = softmax over i = 0..C of  Q_0 K_i^T / sqrt(D)
    E'_V = sum over i of S_i V_i
    E^_V = Trans(E'_V) = Linear(4D -> D)(GELU(Linear(D -> 4D)(E'_V)))
    logits = Linear(E^_V)

The paper's 1x1 convolutions act on single vectors, so they are linear layers. Text has key and value
projections of its own, as its width may differ. The paper names no activation: GELU.

It names no initialisation either. `start_fusion` sets one inside these equations (beyond the paper), from
what stage 1 trained. With its projection P and classifier (W, b), unit class texts T_c, and n the mean norm
of P V:

    Q = V    K_c = sqrt(D) P^T T_c / (tau n)    so Q K_c / sqrt(D) is stage 1's text logit
    K_0      one vector, fitted so that the image gets about half of the attention
    V_0 = V / (mean own share)                  so W V_0 are stage 1's vision logits
    V_c      W V_c = gain height (e_c - 1 / C) / (mean text share): a text speaks for its own class
    Trans    the identity, as GELU(x) - GELU(-x) = x; it takes two of the four widths

`height` is how far the best vision logit stands above the mean. With `gain` 1 vision and text start equally
strong; a larger one trusts the texts more, as good descriptions deserve.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mpfgvc.model.prompts import ClassEmbeddings

if TYPE_CHECKING:
    from mpfgvc.model.network import MPFGVC

SMALLEST = 1e-3
"""Singular values below this share of the largest count as zero where a system of equations is solved."""
MOST_EMBEDDINGS = 4096
"""Embeddings that the means and the fit look at, evenly spaced: memory does not grow with the photographs."""


class TextMemory(NamedTuple):
    """Keys K_c and values V_c of the texts of all classes."""

    keys: Float[Tensor, "classes width"]
    values: Float[Tensor, "classes width"]


class Fusion(nn.Module):
    """Fuse an image embedding with the text embeddings of all classes and classify the result."""

    def __init__(self, *, width: int, text_width: int, classes: int, seed: int = 0):
        super().__init__()
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.text_key = nn.Linear(text_width, width)
        self.text_value = nn.Linear(text_width, width)
        self.transform = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.classifier = nn.Linear(width, classes)
        self._initialise(seed)

    def forward(
        self, embedding: Float[Tensor, "batch width"], text_features: Float[Tensor, "classes embed"]
    ) -> Float[Tensor, "batch classes"]:
        """Logits of every class."""
        return self.classify(embedding, self.memory(text_features))

    def memory(self, text_features: Float[Tensor, "classes embed"]) -> TextMemory:
        """Keys and values of the class texts, the same for all images."""
        return TextMemory(self.text_key(text_features), self.text_value(text_features))

    def classify(self, embedding: Float[Tensor, "batch width"], texts: TextMemory) -> Float[Tensor, "batch classes"]:
        """Logits of every class, from the keys and values of its texts."""
        fused = self.transform(self.attend(embedding, texts))
        logits: Tensor = self.classifier(fused)
        return logits

    def attend(self, embedding: Float[Tensor, "batch width"], texts: TextMemory) -> Float[Tensor, "batch width"]:
        """E'_V, from the keys and values of the texts; the image's own key is index 0 beside them."""
        query = self.query(embedding) / math.sqrt(embedding.shape[-1])
        own_score = (query * self.key(embedding)).sum(dim=-1, keepdim=True)
        text_scores = F.linear(query, texts.keys)
        shares = torch.cat([own_score, text_scores], dim=1).softmax(dim=-1)
        own_share, text_shares = shares[:, :1], shares[:, 1:]
        attended: Tensor = own_share * self.value(embedding) + text_shares @ texts.values
        return attended

    def _initialise(self, seed: int) -> None:
        """Small weights N(0, 0.02^2) without biases, as in vision transformers, and queries at zero.

        So the image starts by attending equally to itself and to every text. With torch's default
        initialisation it attends only to itself or not at all, depending on the seed, and a class can be
        lost for good.
        """
        generator = torch.Generator().manual_seed(seed)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02, generator=generator)
                nn.init.zeros_(layer.bias)
        nn.init.zeros_(self.query.weight)


@torch.no_grad()
def start_fusion(network: MPFGVC, embeddings: Float[Tensor, "photographs width"], *, gain: float = 1.0) -> None:
    """Set the fusion module of a deployed network that stage 1 trained, in place, without random numbers.

    Its class texts become unit vectors, as only their direction was trained. `embeddings` are those of
    training photographs.
    """
    fusion = network.fusion
    network.text = ClassEmbeddings(F.normalize(network.text(), dim=-1))
    vectors, texts = _exact(embeddings[:: -(-len(embeddings) // MOST_EMBEDDINGS)]), _exact(network.text())
    root = math.sqrt(vectors.shape[1])
    identity = torch.eye(vectors.shape[1], dtype=vectors.dtype)
    weight = _exact(network.projection.weight) if isinstance(network.projection, nn.Linear) else identity
    norm = F.linear(vectors, weight).norm(dim=1).mean()
    keys = weight.T * (root / (network.temperature * norm))
    text_scores = (vectors @ keys @ texts.T / root).logsumexp(dim=1)
    own_key = torch.linalg.pinv(vectors / root, rtol=SMALLEST) @ text_scores
    own_share = (vectors @ own_key / root - text_scores).sigmoid().mean()

    _set(fusion.query, identity)
    _set(fusion.key, torch.zeros_like(identity), own_key)
    _set(fusion.value, identity / own_share)
    _set(fusion.text_key, keys)
    _set(fusion.text_value, gain * _text_values(network, vectors, texts) / (1 - own_share))
    first, last = cast(nn.Linear, fusion.transform[0]), cast(nn.Linear, fusion.transform[2])
    both = torch.cat([identity, -identity])
    first.weight[: len(both)] = both.to(first.weight)  # the other hidden units stay as they are
    first.bias.zero_()
    _set(last, torch.zeros_like(last.weight))
    last.weight[:, : len(both)] = both.T.to(last.weight)
    _set(fusion.classifier, network.classifier.weight, network.classifier.bias)


def _exact(tensor: Tensor) -> Tensor:
    """In float64 on the CPU, which every machine has."""
    return tensor.cpu().double()


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


def _set(
    layer: nn.Linear, weight: Float[Tensor, "outputs inputs"], bias: Float[Tensor, " outputs"] | None = None
) -> None:
    layer.weight.copy_(weight)
    layer.bias.zero_() if bias is None else layer.bias.copy_(bias)
