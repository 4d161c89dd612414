"""The loss of stage 1 by hand, and what it leaves untrained."""

import pytest
import torch
import torch.nn.functional as F

from mpfgvc.config import ImageTowerConfig, ModelConfig, Stage1Config, TextTowerConfig
from mpfgvc.model.losses import Objective
from mpfgvc.model.network import MPFGVC
from mpfgvc.training.stages import Stage1

CLASSES = [f"class {index}" for index in range(9)]
IMAGES = torch.randn(4, 3, 32, 48, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([5, 0, 5, 8])


@pytest.fixture(scope="module")
def network() -> MPFGVC:
    image = ImageTowerConfig(name="test_vit", pretrained=False, image_size=[32, 48])
    text = TextTowerConfig(name="mpfgvc-small", pretrained=None)
    return MPFGVC.from_config(ModelConfig(image_tower=image, text_tower=text, kept_tokens=3), CLASSES)


def test_the_loss_is_that_of_the_classifier_plus_that_of_the_texts(network: MPFGVC) -> None:
    result = Stage1(network, Stage1Config(), Objective())(IMAGES, LABELS)
    embedding = network.image_encoder(IMAGES).embedding
    cosines = F.cosine_similarity(network.projection(embedding)[:, None], network.text()[None], dim=-1)
    expected = 0.0
    for row, label in enumerate(LABELS):
        texts = cosines[row] / 0.07
        expected += (texts.exp().sum().log() - texts[label]).item() / 4
        classifier = network.classifier(embedding)[row]
        expected += (classifier.exp().sum().log() - classifier[label]).item() / 4
    assert result.loss.item() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("kept", "left_out"), [("vision", "text"), ("text", "vision")])
def test_a_weight_of_zero_leaves_out_a_loss_and_all_that_only_it_trains(
    network: MPFGVC, kept: str, left_out: str
) -> None:
    plain = Stage1(network, Stage1Config(), Objective())
    whole = plain(IMAGES, LABELS).loss.item()
    weights = {f"{kept}_weight": 0.5, f"{left_out}_weight": 0.0}
    stage = Stage1(network, Stage1Config(**weights), Objective())
    part = "projection" if left_out == "text" else "classifier"
    result = stage(IMAGES, LABELS)
    other = Stage1(network, Stage1Config(**{f"{kept}_weight": 0.0, f"{left_out}_weight": 1.0}), Objective())
    assert whole == pytest.approx(2 * result.loss.item() + other(IMAGES, LABELS).loss.item(), abs=1e-4)
    stage = Stage1(network, Stage1Config(**weights), Objective())
    assert stage.sources == (kept,)
    assert not any(part in name for name in stage.trained())
    assert ("network.text.context" in stage.trained()) == (kept == "text")
    grouped = [id(weight) for group in stage.parameter_groups() for weight in group.parameters]
    assert sorted(grouped) == sorted(map(id, stage.trained().values()))


def test_a_tower_rate_of_zero_freezes_the_tower(network: MPFGVC) -> None:
    stage = Stage1(network, Stage1Config(tower_lr=0), Objective())
    network.zero_grad()
    stage(IMAGES, LABELS).loss.backward()
    assert all(weight.grad is None for weight in network.image_encoder.parameters())
    assert network.classifier.weight.grad.any()
    assert network.text.context.grad.any()
    inside = {id(weight) for weight in network.image_encoder.parameters()}
    grouped = {id(weight) for group in stage.parameter_groups() for weight in group.parameters}
    assert grouped == {id(weight) for weight in stage.trained().values()}
    assert not grouped & inside
