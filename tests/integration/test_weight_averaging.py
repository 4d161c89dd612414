"""Stage 1 ends with the average of the trained and the pretrained image tower, and only of that."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from mpfgvc import Config, ConfigError, train

Tiny = Callable[..., Config]
TOWER = "network.image_encoder.tower.transformer."


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
    """Short runs from the pretrained tower."""

    def make(**stage1: Any) -> Config:
        named = {f"stage1.{name}": value for name, value in stage1.items()}
        tower = {"model.image_tower.weights": str(pretrained), "stage2.epochs": 0, "stage2.start": "random"}
        return tiny(tower | {"stage1.tower_lr": 3e-3} | named)

    return make


def test_the_tower_is_the_weighted_mean_and_the_rest_stays_trained(
    settings: Tiny, pretrained: Path, tmp_path: Path
) -> None:
    plain, averaged = (
        train(settings(**more), out=tmp_path / name).path
        for name, more in (("plain", {}), ("averaged", {"pretrained_share": 0.3}))
    )
    before, after = (load_file(run / "stage1.safetensors") for run in (plain, averaged))
    stored = load_file(pretrained)
    assert before.keys() == after.keys()
    one = f"{TOWER}blocks.1.mlp.fc1.weight"
    assert not torch.equal(after[one], before[one])
    for name, weight in before.items():
        if name.startswith(TOWER):
            expected = 0.7 * weight + 0.3 * stored[name.removeprefix(TOWER)]
            torch.testing.assert_close(after[name], expected, atol=1e-6, rtol=0)
        else:
            assert torch.equal(after[name], weight), name
    model = load_file(averaged / "model" / "model.safetensors")
    assert torch.equal(model[one.removeprefix("network.")], after[one])


def test_a_share_of_nothing_is_refused_at_the_start(tiny: Tiny, tmp_path: Path) -> None:
    line = "stage1.pretrained_share must be 0 for an image tower without pretrained weights, got 0.2"
    with pytest.raises(ConfigError, match=line):
        train(tiny({"stage1.pretrained_share": 0.2}), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
