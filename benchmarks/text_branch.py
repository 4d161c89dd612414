"""The text branch, forward and backward to the prompts, at their own length against CLIP's 77 tokens.

    python benchmarks/text_branch.py

CLIP's ViT-B-16 text tower (random weights: speed does not depend on them), J = 4, "bird", C = 200, fp32.
The reference is what CoOp, MaPLe and CLIP-ReID do: prompts padded to 77 tokens, all positions in all
blocks.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from common import CLIP_TEXT, bird_prompts
from mpfgvc.model.prompts import ClassPrompts
from mpfgvc.model.towers.text_tower import TextTower, build_text_tower
from side_by_side import compare_memory, compare_time, report

CLASSES = 200
Result = tuple[Tensor, Tensor]  # text features, gradient of the prompts


def main() -> None:
    tower = build_text_tower(CLIP_TEXT)
    prompts = bird_prompts(tower, CLASSES)
    direction = torch.randn(CLASSES, tower.embed)
    ours = _step(prompts, prompts, direction)
    reference = _step(prompts, lambda: padded(prompts, tower), direction)
    what = f"text branch, ViT-B-16, J = 4, C = {CLASSES}"
    memory = compare_memory(f"{what}: peak memory", ours=ours, reference=reference, wanted=9, turns=1)
    _check_equal(ours(), reference())
    seconds = compare_time(f"{what}: time", ours=ours, reference=reference, wanted=10, turns=3)
    report("text_branch", [seconds, memory])


def padded(prompts: ClassPrompts, tower: TextTower) -> Tensor:
    """The same text features, with every prompt at full context length."""
    transformer = tower.transformer
    classes = len(prompts.context)
    start = prompts.start.expand(classes, 1, -1)
    words = torch.cat([start, prompts.context, prompts.ending], dim=1)
    padding = tower.embed_tokens(torch.zeros(classes, tower.context_length - words.shape[1], dtype=torch.long))
    tokens = torch.cat([words, padding], dim=1) + transformer.positional_embedding
    tokens = transformer.ln_final(transformer.transformer(tokens, attn_mask=transformer.attn_mask))
    features: Tensor = tokens[torch.arange(classes), prompts.end] @ transformer.text_projection
    return features


def _step(prompts: ClassPrompts, encode: Callable[[], Tensor], direction: Tensor) -> Callable[[], Result]:
    def step() -> Result:
        prompts.context.grad = None
        features = encode()
        (features * direction).sum().backward()
        assert prompts.context.grad is not None
        return features.detach(), prompts.context.grad

    return step


def _check_equal(ours: Result, reference: Result) -> None:
    outputs = (ours[0] - reference[0]).abs().max().item()
    gradients = ((ours[1] - reference[1]).norm() / reference[1].norm()).item()
    print(f"outputs differ by {outputs:.1e} at most, gradients by {gradients:.1e} of their norm")
    if outputs > 1e-5 or gradients > 1e-4:
        raise SystemExit("text_branch: ours does not compute what the reference computes")


if __name__ == "__main__":
    main()
