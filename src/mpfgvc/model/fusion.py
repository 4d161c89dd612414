"""Vision-language fusion module (VLFM, section 3): the image queries itself and all class texts.

    Q_0, K_0, V_0 = projections of E_V;   K_c, V_c = projections of E_T^c
    S    = softmax over i = 0..C of  Q_0 K_i^T / sqrt(D)
    E'_V = sum over i of S_i V_i
    E^_V = Trans(E'_V) = Linear(4D -> D)(GELU(Linear(D -> 4D)(E'_V)))
    logits = Linear(E^_V)

The paper's 1x1 convolutions act on single vectors, so they are linear layers.
Text has key and value projections of its own, as its width may differ. The
paper names no activation: GELU; nor an initialisation.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class TextMemory(NamedTuple):
    """Keys K_c and values V_c of the texts of all classes."""

    keys: Float[Tensor, "classes width"]
    values: Float[Tensor, "classes width"]


class Fusion(nn.Module):
    """Fuse an image embedding with the text embeddings of all classes and classify the result."""

    def __init__(
        self,
        *,
        width: int,
        text_width: int,
        classes: int,
        seed: int = 0,
    ):
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

    def classify(
        self, embedding: Float[Tensor, "batch width"], texts: TextMemory
    ) -> Float[Tensor, "batch classes"]:
        """Logits of every class, from the keys and values of its texts."""
        fused = self.transform(self.attend_to(embedding, texts))
        logits: Tensor = self.classifier(fused)
        return logits

    def attend(
        self, embedding: Float[Tensor, "batch width"], text_features: Float[Tensor, "classes embed"]
    ) -> Float[Tensor, "batch width"]:
        """E'_V: the image embedding's attention over itself and the class texts."""
        return self.attend_to(embedding, self.memory(text_features))

    def attend_to(
        self, embedding: Float[Tensor, "batch width"], texts: TextMemory
    ) -> Float[Tensor, "batch width"]:
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
