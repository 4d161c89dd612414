"""Discrepancy-aware text prompt (DaTP, section 2): a learnable prompt for every class.

    P^c = [start, X^c_1 ... X^c_J, class++, end]      T^c = text tower(P^c), read at the end

X^c_j are learnable word embeddings that belong to class c; with shared ones all the prompts would be the same
text. class++ is the supercategory ("bird") and the same for every class; as an option beyond the paper, the
class's own name. The text tower is frozen. Once training is over T^c is a constant: `ClassEmbeddings` then
stands in for `ClassPrompts`, and neither tower nor tokenizer is needed.

Beyond the paper, sentences may describe the classes. They are constants, and cost nothing in training:

    d^c = mean over the sentences of class c of  T(sentence) / |T(sentence)|        0 without sentences
    T^c = w * T(P^c) / |T(P^c)| + d^c                                               w = 1 without sentences
"""

import re
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mpfgvc.config import ModelConfig
from mpfgvc.errors import ConfigError
from mpfgvc.model.towers.text_tower import TextTower

CHUNK = 256
"""Sentences that the text tower reads at a time."""
_BREAKS = (r"(?<=[.!?;])\s+|(?<=[。！？；])", r"(?<=,)\s+|(?<=[，、])", r"\s+")
"""Where a text may be divided, the best first: ends of sentences, commas, words."""


class ClassPrompts(nn.Module):
    """Learnable tokens of every class and the frozen text tower that reads them.

    `endings` holds the words behind the learnable tokens, one entry for each class. `context_init` are words
    whose embeddings the learnable tokens start from; None = N(0, 0.02^2) from `seed`. `context` is X,
    (classes, context, width). `descriptions` is d^c, and `prompt_weight` is w beside it; None = the paper.

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
        weight = None
        if descriptions is not None:
            weight = torch.where(descriptions.any(dim=1, keepdim=True), prompt_weight, 1.0)
        self.register_buffer("weight", weight, persistent=False)

    def forward(self, classes: Int[Tensor, " sampled"] | None = None) -> Float[Tensor, "sampled embed"]:
        """Text features T^c of every class, or of some of them in their order. Not normalised."""
        if classes is None:
            classes = torch.arange(len(self.context), device=self.context.device)
        features = self._encode_in_chunks(classes)
        if self.descriptions is None or self.weight is None:
            return features
        return self.weight[classes] * F.normalize(features, dim=-1) + self.descriptions[classes]

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


def class_prompts(
    config: ModelConfig,
    tower: TextTower,
    classes: Sequence[str],
    *,
    sentences: Sequence[Sequence[str]] = (),
    seed: int = 0,
) -> ClassPrompts:
    """The class prompts of a network before any training. Raises ConfigError as `ClassPrompts` does."""
    return ClassPrompts(
        tower=tower,
        endings=prompt_endings(config, classes),
        context_tokens=config.context_tokens,
        context_init=config.context_init,
        descriptions=class_descriptions(tower, sentences) if sentences else None,
        prompt_weight=config.prompt_weight,
        seed=seed,
        chunk=config.prompt_chunk,
    )


def prompt_endings(config: ModelConfig, classes: Sequence[str]) -> list[str]:
    """The words that end each class's prompt: the supercategory, or an option beyond the paper."""
    supercategory = config.supercategory or "object"
    if config.prompt_ending == "supercategory":
        return [supercategory] * len(classes)
    if config.prompt_ending == "class":
        return list(classes)
    return [f"{name} {supercategory}" for name in classes]


@torch.no_grad()
def class_descriptions(tower: TextTower, sentences: Sequence[Sequence[str]]) -> Float[Tensor, "classes embed"]:
    """d^c of each class's sentences, on the device of the tower. A sentence that several share is read once.

    Raises ConfigError for a word that is longer than the tower reads.
    """
    parts = [[part for sentence in own for part in readable_parts(tower, sentence)] for own in sentences]
    row = {part: number for number, part in enumerate(sorted({part for own in parts for part in own}))}
    if not row:
        return torch.zeros(len(parts), tower.embed)
    texts = list(row)
    chunks = [tower.encode(texts[first : first + CHUNK]) for first in range(0, len(texts), CHUNK)]
    features = F.normalize(torch.cat(chunks), dim=-1)
    nothing = features.new_zeros(tower.embed)
    return torch.stack([features[[row[part] for part in own]].mean(dim=0) if own else nothing for own in parts])


def readable_parts(tower: TextTower, sentence: str) -> list[str]:
    """The sentence itself, or parts of it that the tower can read, in their order. Nothing is left out.

    It is divided at the ends of its sentences, then at commas, then at words, into parts as long as possible.
    Raises ConfigError for a word that is longer than the tower reads.
    """
    room = tower.context_length - 2  # between the start and the end of a sentence
    parts = [sentence.strip()]
    for pattern in _BREAKS:
        parts = [shorter for part in parts for shorter in _divided(tower, part, pattern, room)]
    for part in parts:
        if len(tower.token_ids(part)) > room:
            rule = f"must hold words of at most {room} tokens, got {part:.40}..."
            raise ConfigError(f"model.descriptions {rule}; put spaces into it, or remove it")
    return parts


def _divided(tower: TextTower, text: str, pattern: str, room: int) -> list[str]:
    """The text itself if it fits; else its pieces between breaks, joined while they fit together."""
    if len(tower.token_ids(text)) <= room:
        return [text]
    parts: list[str] = []
    for piece in filter(None, re.split(pattern, text)):
        longer = f"{parts[-1]} {piece}" if parts else piece
        if parts and len(tower.token_ids(longer)) <= room:
            parts[-1] = longer
        else:
            parts.append(piece)
    return parts


def division_notes(tower: TextTower, sentences: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """A note about sentences that are longer than the tower reads. Raises ConfigError as `readable_parts` does."""
    texts = [sentence for of_class in sentences for sentence in of_class]
    long = [sentence for sentence in texts if len(readable_parts(tower, sentence)) > 1]
    what = f"descriptions longer than the {tower.context_length} tokens of the text tower, read in parts"
    return (f"{what}: {len(long)} of {len(texts)} (first: {long[0]:.60}...)",) if long else ()


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
    """Ids of each ending with its end token, padded with zeros, and its number of tokens."""
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
