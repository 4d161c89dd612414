"""The fine-tuning baseline trains every parameter of tower and head."""

from torch import nn

from fine_tuning import FineTuning
from mpfgvc.config import ImageTowerConfig, Stage1Config
from mpfgvc.model.towers.image_tower import build_image_tower


def test_it_trains_every_parameter_of_tower_and_head_once() -> None:
    tower = build_image_tower(ImageTowerConfig(name="mpfgvc-birds", pretrained=False))
    stage = FineTuning(tower, nn.Linear(tower.width, 3), Stage1Config(layer_decay=0.5))
    groups = stage.parameter_groups()
    trained = [id(parameter) for group in groups for parameter in group.parameters]
    assert sorted(trained) == sorted(map(id, stage.parameters()))
    head = next(group for group in groups if any(stage.head.weight is each for each in group.parameters))
    assert head.lr == stage.settings.lr
