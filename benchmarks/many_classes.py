"""Thousands of classes: memory of a training step of the text branch, and how its cost grows.

    python benchmarks/many_classes.py

CLIP's ViT-B-16 text tower (random weights: speed does not depend on them), J = 4, "bird", fp32. `memory`
is the whole resident memory of the process, weights and libraries included, against 6 GiB.
"""

import resource

from common import CLIP_TEXT, bird_prompts
from mpfgvc.model.towers.text_tower import build_text_tower
from side_by_side import Comparison, compare_time, report

LIMIT = 6.0  # GiB


def main() -> None:
    tower = build_text_tower(CLIP_TEXT)
    prompts = {classes: bird_prompts(tower, classes) for classes in (1000, 4000, 10_000)}

    def step(classes: int) -> None:
        prompts[classes]().square().sum().backward()
        prompts[classes].context.grad = None

    step(10_000)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    few_many = compare_time(
        "text branch: 4,000 classes against 1,000, seconds per 1,000",
        ours=lambda: step(1000),
        reference=lambda: step(4000),
        wanted=0,
        turns=3,
    )
    report("many_classes", [_memory(peak), _linear(few_many)])


def _memory(peak: float) -> Comparison:
    ratio = LIMIT / peak
    return Comparison(
        claim="text branch, C = 10,000, a step: process memory against 6 GiB",
        unit="GiB",
        ours=peak,
        reference=LIMIT,
        ratio=ratio,
        least=ratio,
        most=ratio,
        wanted=1,
    )


def _linear(comparison: Comparison) -> Comparison:
    """Four times the classes divided by the growth in time: 1 is linear, more is better than linear."""
    shares = [4 / ratio for ratio in (comparison.ratio, comparison.most, comparison.least)]
    ratio, least, most = shares
    return Comparison(
        claim=comparison.claim,
        unit="s",
        ours=comparison.reference / 4,
        reference=comparison.ours,
        ratio=ratio,
        least=least,
        most=most,
        wanted=0.9,
    )


if __name__ == "__main__":
    main()
