"""Sentences about the classes, read by the frozen text tower: an option beyond the paper.

    d^c = mean over the sentences of class c of  T(sentence) / |T(sentence)|

T is the text tower read at the end of a sentence, as CLIP reads it. d^c is a constant: it is computed once,
when the network is built, and costs nothing in training. `ClassPrompts` adds it to what the learned
tokens say. A class without sentences has d^c = 0. Other forms that were tried: benchmarks/LOG.md.

A sentence that is longer than the tower reads becomes several: it is divided at the ends of its
sentences, then at commas, then at words, into parts as long as possible.
"""

import re
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mpfgvc.errors import ConfigError
from mpfgvc.model.towers.text_tower import TextTower

_BREAKS = (r"(?<=[.!?;])\s+|(?<=[。！？；])", r"(?<=,)\s+|(?<=[，、])", r"\s+")
"""Where a text may be divided, the best first: ends of sentences, commas, words."""
CHUNK = 256
"""Sentences that the text tower reads at a time."""


@torch.no_grad()
def class_descriptions(
    tower: TextTower, sentences: Sequence[Sequence[str]], *, chunk: int = CHUNK
) -> Float[Tensor, "classes embed"]:
    """The mean normalised text feature of each class's sentences, on the device of the tower.

    A sentence that several classes share is read once. Raises ConfigError for a word that is longer than
    the tower reads.
    """
    parts = [[part for sentence in each for part in readable_parts(tower, sentence)] for each in sentences]
    places = {part: place for place, part in enumerate(sorted({part for each in parts for part in each}))}
    if not places:
        return torch.zeros(len(parts), tower.embed)
    features = _read(tower, list(places), chunk)
    means = [features[[places[part] for part in each]].mean(dim=0) for each in parts if each]
    described = features.new_zeros(len(parts), tower.embed)
    described[[place for place, each in enumerate(parts) if each]] = torch.stack(means)
    return described


def readable_parts(tower: TextTower, sentence: str) -> list[str]:
    """The sentence itself, or parts of it that the tower can read, in their order. Nothing is left out.

    Raises ConfigError for a word that is longer than the tower reads.
    """
    parts = [sentence.strip()]
    for pattern in _BREAKS:
        parts = [part for each in parts for part in _divided(tower, each, pattern)]
    for part in parts:
        if not _fits(tower, part):
            rule = f"must hold words of at most {_room(tower)} tokens, got {part:.40}..."
            raise ConfigError(f"model.descriptions {rule}; put spaces into it, or remove it")
    return parts


def division_notes(tower: TextTower, sentences: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """A line for people about sentences that are longer than the tower reads, if there are any.

    Raises ConfigError as `readable_parts` does.
    """
    every = [each for of_class in sentences for each in of_class]
    long = [each for each in every if len(readable_parts(tower, each)) > 1]
    if not long:
        return ()
    what = f"descriptions longer than the {tower.context_length} tokens of the text tower, read in parts"
    return (f"{what}: {len(long)} of {len(every)} (first: {long[0]:.60}...)",)


def _read(tower: TextTower, sentences: Sequence[str], chunk: int) -> Float[Tensor, "sentences embed"]:
    chunks = [sentences[first : first + chunk] for first in range(0, len(sentences), chunk)]
    return torch.cat([F.normalize(tower.encode(each), dim=-1) for each in chunks])


def _divided(tower: TextTower, text: str, pattern: str) -> list[str]:
    """The text itself if it fits; else its pieces between breaks, joined while they fit together."""
    if _fits(tower, text):
        return [text]
    parts: list[str] = []
    for piece in filter(None, re.split(pattern, text)):
        longer = f"{parts[-1]} {piece}" if parts else piece
        if parts and _fits(tower, longer):
            parts[-1] = longer
        else:
            parts.append(piece)
    return parts


def _fits(tower: TextTower, text: str) -> bool:
    return len(tower.token_ids(text)) <= _room(tower)


def _room(tower: TextTower) -> int:
    """Tokens between the start and the end of a sentence."""
    return tower.context_length - 2
