"""Stage 1 ends with the average of the trained and the pretrained image tower, and only of that."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from tests.made_answers import metrics_of

from mpfgvc import Config, ConfigError, resume, train
from mpfgvc.evaluation.metrics import Answers, Evaluation
from mpfgvc.model.losses import Objective
from mpfgvc.model.network import MPFGVC
from mpfgvc.training import train_stages as training
from mpfgvc.training.stages import Stage1
from mpfgvc.training.train_stages import SHARES, train_averaged

Tiny = Callable[..., Config]


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of weights for the tower of `tiny`."""
    path = tmp_path_factory.mktemp("weights") / "tower.safetensors"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        save_file(timm.create_model("test_vit", num_classes=0, img_size=48).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def settings(tiny: Tiny, pretrained: Path) -> Tiny:
    """Short runs from the pretrained tower, with validation photographs."""

    def make(**stage1: Any) -> Config:
        named = {f"stage1.{name}": value for name, value in stage1.items()}
        tower = {"model.image_tower.weights": str(pretrained), "data.validation": 0.3, "stage2.epochs": 1}
        return tiny(tower | {"stage1.tower_lr": 3e-3, "stage1.epochs": 3} | named)

    return make


@pytest.fixture(scope="module")
def plain(settings: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run without averaging."""
    torch.set_num_threads(1)
    return train(settings(), out=tmp_path_factory.mktemp("plain") / "run").path


def test_the_tower_is_the_weighted_mean_and_the_rest_stays_trained(
    settings: Tiny, plain: Path, pretrained: Path, tmp_path: Path
) -> None:
    averaged = train(settings(pretrained_share=0.3), out=tmp_path / "run").path
    before, after = (load_file(run / "stage1.safetensors") for run in (plain, averaged))
    stored = load_file(pretrained)
    tower = "network.image_encoder.tower.transformer."
    assert before.keys() == after.keys()
    for name, weight in before.items():
        if name.startswith(tower):
            expected = 0.7 * weight + 0.3 * stored[name.removeprefix(tower)]
            torch.testing.assert_close(after[name], expected, atol=1e-6, rtol=0)
        else:
            assert torch.equal(after[name], weight), name
    model = load_file(averaged / "model" / "model.safetensors")
    name = "image_encoder.tower.transformer.blocks.1.mlp.fc1.weight"
    assert torch.equal(model[name], after[f"network.{name}"])
    assert not torch.equal(after[f"network.{name}"], before[f"network.{name}"])


@pytest.mark.parametrize(
    ("accuracies", "best"),
    [
        ({0.0: 5, 0.3: 7, 0.8: 6}, 0.3),
        ({0.2: 7, 0.6: 7}, 0.2),
        ({}, 0.0),
        ({0.9: 1}, 0.9),
    ],
)
def test_validation_takes_the_best_share_and_the_smallest_of_equal_ones(
    tiny: Tiny, accuracies: dict[float, int], best: float
) -> None:
    config = tiny({"stage1.pretrained_share": "validation"})
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


@pytest.mark.parametrize("moment", [1, 4])
def test_a_run_killed_while_it_chooses_chooses_alike_when_resumed(
    settings: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    config = settings(pretrained_share="validation", epochs=2)
    whole, run = train(config, out=tmp_path / "whole").path, tmp_path / "run"
    evaluate, calls = training.evaluate_photos, iter(range(1000))

    def evaluate_or_stop(*given: Any, **options: Any) -> Evaluation:
        if next(calls) == 2 + moment:  # the first two are of the epochs
            raise KeyboardInterrupt
        return evaluate(*given, **options)

    with monkeypatch.context() as patch:
        patch.setattr(training, "evaluate_photos", evaluate_or_stop)
        with pytest.raises(KeyboardInterrupt):
            train(config, out=run)
    assert not (run / "stage1.safetensors").exists()
    resume(run)
    for name in ("stage1.safetensors", "model/model.safetensors"):
        tensors, expected = load_file(run / name), load_file(whole / name)
        assert tensors.keys() == expected.keys()
        assert all(torch.equal(tensors[each], expected[each]) for each in expected)


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (
            {"stage1.pretrained_share": 0.2},
            "must be 0 for an image tower without pretrained weights, got 0.2",
        ),
        (
            {"stage1.pretrained_share": "validation", "model.image_tower.pretrained": True}
            | {"data.dataset": "synthetic", "data.root": None, "data.validation": 0.0},
            "must be a number without validation photographs, got validation; set data.validation above 0",
        ),
    ],
)
def test_a_share_of_nothing_is_refused_at_the_start(
    tiny: Tiny, tmp_path: Path, overrides: dict[str, Any], line: str
) -> None:
    with pytest.raises(ConfigError, match=f"stage1.pretrained_share {line}"):
        train(tiny(overrides), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
