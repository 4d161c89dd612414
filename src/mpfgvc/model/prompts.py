"""Discrepancy-aware text prompt (DaTP, section 2): a learnable prompt for every class.

    P^c = [start, X^c_1 ... X^c_J, class++, end]      T^c = text tower(P^c), read at the end
    T^c = w * T(P^c) / |T(P^c)| + d^c                  with descriptions (descriptions.py), beyond the paper

X^c_j are learnable word embeddings that belong to class c; with shared ones all the
prompts would be the same text. class++ is the supercategory ("bird") and the
same for every class; as an option beyond the paper, the class's own name. The
text tower is frozen. Once training is over T^c is a constant: `ClassEmbeddings`
then stands in for `ClassPrompts`, and neither tower nor tokenizer is needed.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mpfgvc.errors import ConfigError
from mpfgvc.model.towers.text_tower import TextTower


class ClassPrompts(nn.Module):
    """Learnable tokens of every class and the frozen text tower that reads them.

    `endings` holds the words behind the learnable tokens, one entry for each
    class. `context_init` are words whose embeddings the learnable tokens start
    from; None = N(0, 0.02^2) from `seed`. `context` is X, (classes, context, width).

    `descriptions` is d^c, and `prompt_weight` is w beside it; None = the paper. A class whose d^c is
    zero has no sentences, and w = 1.

    Raises ConfigError if a prompt is longer than the tower reads, or if `context_init`
    does not give `context_tokens` tokens.

    With more than `chunk` classes the tower reads `chunk` prompts at a time and forgets its
    activations, which are computed again in the backward pass: memory is that of one chunk.
    """

    def __init__(
        self,
        *,
        tower: TextTower,
        endings: Sequence[str],
        context_tokens: int,
        context_init: str | None = None,
        descriptions: Float[Tensor, "classes embed"] | None = None,
        prompt_weight: float = 0.05,
        seed: int = 0,
        chunk: int = 256,
    ):
        super().__init__()
        self.tower = tower
        self.chunk = chunk
        context = _initial_context(tower, len(endings), context_tokens, context_init, seed)
        self.context = nn.Parameter(context)
        ids, lengths = _padded_endings(tower, endings, context_tokens)
        self.start: Tensor
        self.ending: Tensor
        self.end: Tensor
        self.register_buffer("start", tower.embed_tokens(torch.tensor([tower.start])), persistent=False)
        self.register_buffer("ending", tower.embed_tokens(ids), persistent=False)
        self.register_buffer("end", context_tokens + lengths, persistent=False)
        self.descriptions: Tensor | None
        self.weight: Tensor | None
        self.register_buffer("descriptions", descriptions, persistent=False)
        self.register_buffer("weight", _weights(descriptions, prompt_weight), persistent=False)

    def forward(self, classes: Int[Tensor, " sampled"] | None = None) -> Float[Tensor, "sampled embed"]:
        """Text features T^c of every class, or of some of them in their order. Not normalised."""
        if classes is None:
            classes = torch.arange(len(self.context), device=self.context.device)
        features = self._encode_in_chunks(classes)
        if self.descriptions is None or self.weight is None:
            return features
        return self.weight[classes] * F.normalize(features, dim=-1) + self.descriptions[classes]

    def deployed(self) -> "ClassEmbeddings":
        """The text features as constants, without the text tower."""
        return ClassEmbeddings(self())

    def _encode_in_chunks(self, classes: Int[Tensor, " sampled"]) -> Float[Tensor, "sampled embed"]:
        if len(classes) <= self.chunk:
            return self._encode(classes)
        chunks = torch.split(classes, self.chunk)
        return torch.cat([checkpoint(self._encode, chunk, use_reentrant=False) for chunk in chunks])

    def _encode(self, classes: Int[Tensor, " sampled"]) -> Float[Tensor, "sampled embed"]:
        start = self.start.expand(len(classes), 1, -1)
        prompts = torch.cat([start, self.context[classes], self.ending[classes]], dim=1)
        features: Tensor = self.tower(prompts, self.end[classes])
        return features


class ClassEmbeddings(nn.Module):
    """The text features of every class as constants, (classes, embed)."""

    def __init__(self, features: Float[Tensor, "classes embed"]):
        super().__init__()
        self.features: Tensor
        self.register_buffer("features", features.detach().clone())

    def forward(self) -> Float[Tensor, "classes embed"]:
        """The text features."""
        return self.features

    def deployed(self) -> "ClassEmbeddings":
        """Itself."""
        return self


def _weights(
    descriptions: Float[Tensor, "classes embed"] | None, weight: float
) -> Float[Tensor, "classes 1"] | None:
    """The weight of each class's prompt: `weight`, or 1 for a class without sentences."""
    if descriptions is None:
        return None
    described = descriptions.any(dim=1, keepdim=True)
    return torch.where(described, weight, 1.0)


def _initial_context(
    tower: TextTower, classes: int, count: int, words: str | None, seed: int
) -> Float[Tensor, "classes context width"]:
    if words is None:
        generator = torch.Generator().manual_seed(seed)
        return 0.02 * torch.randn(classes, count, tower.width, generator=generator)
    ids = tower.token_ids(words)
    if len(ids) != count:
        rule = f"must give model.context_tokens = {count} tokens"
        raise ConfigError(f"model.context_init {rule}, got {len(ids)} from {words!r}")
    return tower.embed_tokens(torch.tensor(ids)).expand(classes, -1, -1).clone()


def _padded_endings(
    tower: TextTower, endings: Sequence[str], context_tokens: int
) -> tuple[Int[Tensor, "classes length"], Int[Tensor, " classes"]]:
    """Ids of each ending with its end token, padded with zeros, and the place of the end token (from 1)."""
    ids = [[*tower.token_ids(words), tower.end] for words in endings]
    longest = max(map(len, ids))
    room = tower.context_length - 1 - context_tokens
    if longest > room:
        words = max(endings, key=lambda ending: len(tower.token_ids(ending)))
        rule = f"must leave room for {words!r} among the {tower.context_length} tokens of a prompt"
        hint = "use fewer, or shorter names"
        raise ConfigError(f"model.context_tokens {rule}, got {context_tokens}; {hint}")
    padded = torch.tensor([row + [0] * (longest - len(row)) for row in ids])
    return padded, torch.tensor([len(row) for row in ids])
