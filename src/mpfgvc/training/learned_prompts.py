"""What the prompts of a run have learned: the words near them, how far they moved, which classes came close.

The nearest words are those of the text tower's vocabulary with the largest cosine to a learned token. Prompts
are learned as vectors, not as words, so the nearest words seldom mean anything to people, as CoOp (Zhou et
al. 2022) found, too. A cosine near 1 says that a token is a word; a small one, that it is not.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mpfgvc.data.descriptions import descriptions_of_run
from mpfgvc.data.photographs_file import load_photos
from mpfgvc.errors import CheckpointError, check_at_least
from mpfgvc.model.prompts import ClassPrompts, class_prompts
from mpfgvc.model.towers.text_tower import TextTower, build_text_tower
from mpfgvc.run_folder import RunFolder
from mpfgvc.training.checkpoint import load_stage1_prompts


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
    check_at_least(1, "words", words)
    check_at_least(1, "pairs", pairs)
    folder = RunFolder.open(run)
    classes, prompts = _prompts_at_start(folder)
    features, start = prompts(), prompts.context.clone()
    learned = load_stage1_prompts(folder.stage1, prompts)
    prompts.context.copy_(learned)
    moved = ((learned - start).norm(dim=-1) / start.norm(dim=-1).clamp_min(1e-12)).mean(dim=-1)
    near = _near_words(prompts.tower, learned, words)
    return LearnedPrompts(
        prompts=[
            LearnedPrompt(label=label, tokens=tokens, moved=round(share, 4))
            for label, tokens, share in zip(classes, near, moved.tolist(), strict=True)
        ],
        pairs=_close_pairs(classes, prompts(), features, pairs),
    )


def _prompts_at_start(folder: RunFolder) -> tuple[tuple[str, ...], ClassPrompts]:
    """The classes of a run, and their prompts before any training."""
    config, photos = folder.read_config(), load_photos(folder.photographs)
    if not folder.stage1.is_file():
        hint = f"finish it first: mpfgvc train --resume {folder.path}"
        raise CheckpointError(f"{folder.path} has no learned prompts, its stage 1 has not ended; {hint}")
    classes = photos.classes
    sentences = descriptions_of_run(folder, config.model.descriptions, classes).sentences
    tower = build_text_tower(config.model.text_tower, seed=config.seed)
    return classes, class_prompts(config.model, tower, classes, sentences=sentences, seed=config.seed)


def _near_words(
    tower: TextTower, context: Float[Tensor, "classes context width"], count: int
) -> list[list[list[NearWord]]]:
    """For each token of each class the `count` nearest words; start and end of a text are no words."""
    words = tower.vocabulary()
    ids = torch.tensor([number for number in words if number not in (tower.start, tower.end)])
    vocabulary = F.normalize(tower.embed_tokens(ids), dim=-1)
    near = []
    for tokens in F.normalize(context, dim=-1):  # class by class, which bounds the memory
        best = (tokens @ vocabulary.T).topk(count)
        found = zip(best.values.tolist(), ids[best.indices].tolist(), strict=True)
        near.append(
            [
                [NearWord(word=words[number], cosine=round(cosine, 4)) for cosine, number in zip(*token, strict=True)]
                for token in found
            ]
        )
    return near


def _close_pairs(
    classes: tuple[str, ...], now: Float[Tensor, "classes embed"], start: Tensor, count: int
) -> list[ClosePair]:
    """The `count` pairs with the largest cosine, each once."""
    unit, before = F.normalize(now, dim=-1), F.normalize(start, dim=-1)
    one, other = torch.triu_indices(len(unit), len(unit), offset=1)
    cosines = (unit @ unit.T)[one, other]
    best = cosines.topk(min(count, len(cosines))).indices
    return [
        ClosePair(
            labels=(classes[i], classes[j]),
            cosine=round(float(unit[i] @ unit[j]), 4),
            at_start=round(float(before[i] @ before[j]), 4),
        )
        for i, j in zip(one[best].tolist(), other[best].tolist(), strict=True)
    ]
