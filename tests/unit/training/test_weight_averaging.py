"""Validation chooses the share of the pretrained tower."""

from typing import Any

import pytest
import torch
from tests.made_answers import metrics_of

from mpfgvc import MPFGVC, load_config
from mpfgvc.evaluation.metrics import Answers, Evaluation
from mpfgvc.model.losses import Objective
from mpfgvc.training.stages import Stage1
from mpfgvc.training.train_stages import SHARES, train_averaged

SMALL: dict[str, Any] = {
    "model.image_tower.name": "test_vit",
    "model.image_tower.pretrained": False,
    "model.image_tower.image_size": 48,
    "model.text_tower.name": "mpfgvc-small",
    "model.text_tower.pretrained": None,
    "model.kept_tokens": 4,
    "stage1.pretrained_share": "validation",
}


@pytest.mark.parametrize(
    ("accuracies", "best"), [({0.0: 5, 0.3: 7, 0.8: 6}, 0.3), ({0.2: 7, 0.6: 7}, 0.2), ({}, 0.0), ({0.9: 1}, 0.9)]
)
def test_validation_takes_the_best_share_and_the_smallest_of_equal_ones(
    accuracies: dict[float, int], best: float
) -> None:
    config = load_config(overrides=SMALL)
    network = MPFGVC.from_config(config.model, ["crow", "wren", "owl"])
    stage = Stage1(network, config.stage1, Objective())
    weight = network.image_encoder.tower.transformer.blocks[1].mlp.fc1.weight
    start = weight.detach().clone()
    seen: list[float] = []
    lines: list[str] = []

    def train_by_one() -> dict[str, torch.Tensor]:
        with torch.no_grad():
            weight.add_(1)
        return {}

    def validate() -> Evaluation:
        seen.append(round(1 - (weight - start).mean().item(), 4))
        right = accuracies.get(seen[-1], 0)
        sources = {
            "vision": metrics_of({(0, 0): right, (0, 1): 9 - right}, 3),
            "text": metrics_of({(1, 1): 2, (1, 0): 7}, 3),
        }
        answers = Answers(paths=(), classes=network.classes, sources=sources)
        return Evaluation(split="validation", answers=answers)

    weights = train_averaged(stage, train_by_one, validate=validate, tell=lines.append)
    assert seen == list(SHARES)
    assert (weight - start).mean().item() == pytest.approx(1 - best, abs=1e-5)
    (stored,) = (value for name, value in weights.items() if name.endswith("blocks.1.mlp.fc1.weight"))
    assert torch.equal(stored, weight)
    assert lines[0].startswith(f"stage1.pretrained_share {best:g}: ")
    assert "(10 evaluations)" in lines[0]
