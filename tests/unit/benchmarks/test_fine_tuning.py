"""The fine-tuning baseline: what it trains, and that it continues where it stopped."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from common import settings_of
from fine_tuning import FineTuning, fine_tune
from mpfgvc import Config
from mpfgvc.config import ImageTowerConfig, Stage1Config
from mpfgvc.data.loading import TrainingLoader
from mpfgvc.model.towers.image_tower import build_image_tower


@pytest.fixture
def config() -> Config:
    few = {"data.birds.species": 2, "data.birds.train": 4, "data.birds.test": 1, "data.workers": 0}
    short = {"stage1.epochs": 2, "stage1.batch_size": 3, "checkpoint_steps": 1, "device": "cpu"}
    return settings_of("synthetic", few | short)


def test_it_trains_every_parameter_of_tower_and_head_once() -> None:
    tower = build_image_tower(ImageTowerConfig(name="mpfgvc-birds", pretrained=False))
    stage = FineTuning(tower, nn.Linear(tower.width, 3), Stage1Config(layer_decay=0.5))
    groups = stage.parameter_groups()
    trained = [id(parameter) for group in groups for parameter in group.parameters]
    assert sorted(trained) == sorted(map(id, stage.parameters()))
    head = next(group for group in groups if any(stage.head.weight is each for each in group.parameters))
    assert head.lr == stage.settings.lr


def test_a_stopped_training_continues_to_the_same_weights(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = fine_tune(config, tmp_path / "whole").state_dict()
    epoch = TrainingLoader.epoch

    def stopping(loader: TrainingLoader, number: int, first_step: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        batches = epoch(loader, number, first_step)
        if number == 0:
            return batches
        return _stop_after(batches, 1)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingLoader, "epoch", stopping)
        with pytest.raises(KeyboardInterrupt):
            fine_tune(config, tmp_path / "stopped")
    torch.testing.assert_close(fine_tune(config, tmp_path / "stopped").state_dict(), whole, rtol=0, atol=0)


def _stop_after(batches: Iterator[tuple[Tensor, Tensor]], count: int) -> Iterator[tuple[Tensor, Tensor]]:
    for _ in range(count):
        yield next(batches)
    raise KeyboardInterrupt
