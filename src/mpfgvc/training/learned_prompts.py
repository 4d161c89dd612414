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
from mpfgvc.model.prompts import class_prompts
from mpfgvc.model.towers.text_tower import TextTower, build_text_tower
from mpfgvc.run_folder import RunFolder
from mpfgvc.training.checkpoint import load_stage1_prompts


@dataclass(frozen=True)
class NearWord:
    """A word of the vocabulary and its cosine to a learned token, -1..1."""

    word: str
    cosine: float


@dataclass(frozen=True)
class LearnedPrompt:
    """The prompt of a class: for each learned token the nearest words, best first.

    `moved` is how far its tokens went from their start, over the length that they started with, on average.
    """

    label: str
    tokens: list[list[NearWord]]
    moved: float


@dataclass(frozen=True)
class ClosePair:
    """Two classes and the cosine of their text features after training and at the start."""

    labels: tuple[str, str]
    cosine: float
    at_start: float


@dataclass(frozen=True)
class LearnedPrompts:
    """All prompts of a run, in the order of the classes, and the closest pairs of classes, closest first."""

    prompts: list[LearnedPrompt]
    pairs: list[ClosePair]
    is_random: bool
    """Whether the text tower had no pretrained weights, so that no word means anything to it."""

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
    if not folder.stage1.is_file():
        hint = f"finish it first: mpfgvc train --resume {folder.path}"
        raise CheckpointError(f"{folder.path} has no learned prompts, its stage 1 has not ended; {hint}")
    config, classes = folder.read_config(), load_photos(folder.photographs).classes
    sentences = descriptions_of_run(folder, config.model.descriptions, classes).sentences
    tower = build_text_tower(config.model.text_tower, seed=config.seed)
    prompts = class_prompts(config.model, tower, classes, sentences=sentences, seed=config.seed)
    before, start = F.normalize(prompts(), dim=-1), prompts.context.clone()
    learned = load_stage1_prompts(folder.stage1, prompts)
    prompts.context.copy_(learned)
    now = F.normalize(prompts(), dim=-1)
    moved = ((learned - start).norm(dim=-1) / start.norm(dim=-1).clamp_min(1e-12)).mean(dim=-1)
    one, other = torch.triu_indices(len(classes), len(classes), offset=1)
    cosines = (now @ now.T)[one, other]
    closest = cosines.topk(min(pairs, len(cosines))).indices
    return LearnedPrompts(
        [
            LearnedPrompt(label, tokens, round(share, 4))
            for label, tokens, share in zip(classes, _near_words(tower, learned, words), moved.tolist(), strict=True)
        ],
        [
            ClosePair(
                (classes[i], classes[j]), round(float(now[i] @ now[j]), 4), round(float(before[i] @ before[j]), 4)
            )
            for i, j in zip(one[closest].tolist(), other[closest].tolist(), strict=True)
        ],
        is_random=config.model.text_tower.pretrained is None,
    )


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
        near.append([[NearWord(words[n], round(c, 4)) for c, n in zip(*token, strict=True)] for token in found])
    return near
