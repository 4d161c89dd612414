"""What the prompts of a run have learned: the words near them, how far they moved, which classes came close.

The nearest words are those of the text tower's vocabulary with the largest cosine to a learned token. Prompts
are learned as vectors, not as words, so the nearest words seldom mean anything to people, as CoOp (Zhou et
al. 2022) found, too. A cosine near 1 says that a token is a word; a small one, that it is not.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mpfgvc.data.descriptions import descriptions_of_run
from mpfgvc.data.photo_list import PhotoList
from mpfgvc.errors import CheckpointError
from mpfgvc.inference.arguments import refuse_below
from mpfgvc.model.prompts import ClassPrompts, class_prompts
from mpfgvc.model.towers.text_tower import TextTower, build_text_tower
from mpfgvc.run_folder import RunFolder
from mpfgvc.training.checkpoint import load_stage1_prompts

ROWS_AT_ONCE = 1024
"""Tokens or classes that are compared with all others at a time, which bounds the memory."""


@dataclass(frozen=True, kw_only=True)
class NearWord:
    """A word of the vocabulary and its cosine to a learned token, -1..1."""

    word: str
    cosine: float


@dataclass(frozen=True, kw_only=True)
class LearnedPrompt:
    """The prompt of one class: for each learned token the nearest words, best first.

    `moved` is how far its tokens went from their start, as a share of the length they started with, on
    average.
    """

    label: str
    tokens: list[list[NearWord]]
    moved: float


@dataclass(frozen=True, kw_only=True)
class ClosePair:
    """Two classes and the cosine of their text features after training and at the start."""

    labels: tuple[str, str]
    cosine: float
    at_start: float


@dataclass(frozen=True, kw_only=True)
class LearnedPrompts:
    """All prompts of a run, in the order of the classes, and the closest pairs of classes, closest first."""

    prompts: list[LearnedPrompt]
    pairs: list[ClosePair]

    def to_dict(self) -> dict[str, Any]:
        """The document of `mpfgvc prompts --json`."""
        return asdict(self)


@torch.inference_mode()
def learned_prompts(run: str | Path, *, words: int = 1, pairs: int = 10) -> LearnedPrompts:
    """Read the prompts of a run whose stage 1 has ended. Loads its text tower, but not the image tower.

    Raises CheckpointError for a folder that is no run, that has no prompts yet, or whose text tower is not
    available or another one than then, ConfigError for `words` or `pairs` below 1.
    """
    refuse_below(1, "words", words)
    refuse_below(1, "pairs", pairs)
    folder = RunFolder.open(run)
    classes, start = _prompts_at_start(folder)
    features_at_start, context_at_start = start(), start.context.clone()
    start.context.copy_(load_stage1_prompts(folder.stage1, start))
    near = _near_words(start.tower, start.context.flatten(0, 1), words)
    tokens = start.context.shape[1]
    prompts = [
        LearnedPrompt(label=label, tokens=near[place * tokens : (place + 1) * tokens], moved=moved)
        for place, (label, moved) in enumerate(
            zip(classes, _moved(start.context, context_at_start), strict=True)
        )
    ]
    return LearnedPrompts(
        prompts=prompts, pairs=_close_pairs(classes, start(), features_at_start, count=pairs)
    )


def _prompts_at_start(folder: RunFolder) -> tuple[Sequence[str], ClassPrompts]:
    config, photo_list = folder.read_config(), PhotoList.load(folder.photographs)
    if photo_list is None or not folder.stage1.is_file():
        hint = f"finish it first: mpfgvc train --resume {folder.path}"
        raise CheckpointError(f"{folder.path} has no learned prompts, its stage 1 has not ended; {hint}")
    classes = photo_list.classes
    descriptions = descriptions_of_run(folder, config.model.descriptions, classes)
    tower = build_text_tower(config.model.text_tower, seed=config.seed)
    return classes, class_prompts(
        config.model, tower, classes, sentences=descriptions.sentences, seed=config.seed
    )


def _near_words(tower: TextTower, tokens: Float[Tensor, "tokens width"], count: int) -> list[list[NearWord]]:
    """For each token the `count` nearest words of the vocabulary, which start and end are not of."""
    words = tower.vocabulary()
    ids = torch.tensor([each for each in words if each not in (tower.start, tower.end)])
    vocabulary = F.normalize(tower.embed_tokens(ids), dim=-1)
    near: list[list[NearWord]] = []
    for part in torch.split(F.normalize(tokens, dim=-1), ROWS_AT_ONCE):
        best = (part @ vocabulary.T).topk(count)
        for cosines, places in zip(best.values.tolist(), best.indices, strict=True):
            found = zip(ids[places].tolist(), cosines, strict=True)
            near.append([NearWord(word=words[each], cosine=round(cosine, 4)) for each, cosine in found])
    return near


def _moved(now: Float[Tensor, "classes context width"], start: Tensor) -> list[float]:
    share = (now - start).norm(dim=-1) / start.norm(dim=-1).clamp_min(1e-12)
    return [round(value, 4) for value in share.mean(dim=-1).tolist()]


def _close_pairs(
    classes: Sequence[str], now: Float[Tensor, "classes embed"], start: Tensor, *, count: int
) -> list[ClosePair]:
    """The `count` pairs with the largest cosine, each once."""
    unit, before = F.normalize(now, dim=-1), F.normalize(start, dim=-1)
    parts = torch.split(torch.arange(len(classes)), ROWS_AT_ONCE)
    found = sorted(chain.from_iterable(_best_of_rows(unit, rows, count) for rows in parts), reverse=True)
    return [
        ClosePair(
            labels=(classes[one], classes[other]),
            cosine=round(cosine, 4),
            at_start=round(float(before[one] @ before[other]), 4),
        )
        for cosine, one, other in found[:count]
    ]


def _best_of_rows(unit: Tensor, rows: Tensor, count: int) -> list[tuple[float, int, int]]:
    """The best pairs (cosine, row, later row) of which the first is one of `rows`."""
    cosines = unit[rows] @ unit.T
    later = torch.arange(len(unit))[None] > rows[:, None]
    best = cosines.masked_fill(~later, -torch.inf).flatten().topk(min(count, cosines.numel()))
    return [
        (value, int(rows[place // len(unit)]), place % len(unit))
        for value, place in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        if value > -torch.inf
    ]
