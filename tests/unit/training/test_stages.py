"""The loss of stage 1 by hand, over all classes and over a sample, and which classes are in a sample."""

import math

import pytest
import torch
import torch.nn.functional as F

from mpfgvc import ConfigError
from mpfgvc.config import ImageTowerConfig, ModelConfig, Stage1Config, TextTowerConfig
from mpfgvc.model.losses import Objective
from mpfgvc.model.network import MPFGVC
from mpfgvc.training.stages import Stage1, sample_classes

CLASSES = [f"class {index}" for index in range(9)]
IMAGES = torch.randn(4, 3, 32, 48, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([5, 0, 5, 8])
SAMPLED = torch.tensor([7, 2, 7, 11])


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


def test_a_sample_stands_for_the_classes_that_it_leaves_out(network: MPFGVC) -> None:
    stage = Stage1(network, Stage1Config(batch_size=4, sampled_classes=5), Objective())
    torch.manual_seed(6)
    chosen = sample_classes(LABELS, count=5, classes=9).classes.tolist()
    torch.manual_seed(6)
    loss = stage(IMAGES, LABELS).loss.item()
    embedding = network.image_encoder(IMAGES).embedding
    logits = network.text_logits(embedding, network.text())
    expected = F.cross_entropy(network.classifier(embedding), LABELS).item()
    for row, label in enumerate(LABELS.tolist()):
        weights = [1.0 if index in (0, 5, 8) else (9 - 3) / (5 - 3) for index in chosen]
        total = sum(w * logits[row, index].exp() for w, index in zip(weights, chosen, strict=True))
        expected += (total.log() - logits[row, label]).item() / 4
    assert loss == pytest.approx(expected, abs=1e-4)


def test_only_sampled_prompts_have_a_gradient_and_the_right_ones_always(network: MPFGVC) -> None:
    stage = Stage1(network, Stage1Config(batch_size=4, sampled_classes=5), Objective())
    for seed in range(3):
        network.zero_grad()
        torch.manual_seed(seed)
        stage(IMAGES, LABELS).loss.backward()
        gradient = network.text.context.grad
        trained = {row for row in range(9) if gradient[row].any()}
        assert len(trained) == 5
        assert {0, 5, 8} <= trained


def test_sampling_refuses_what_it_cannot_do() -> None:
    with pytest.raises(ConfigError, match=r"stage1\.sampled_classes must be at least 33, got 32"):
        Stage1Config(batch_size=32, sampled_classes=32)
    with pytest.raises(ConfigError, match=r"stage1\.sampled_classes must be at least 17, got 16"):
        Stage1Config(batch_size=32, accumulate=2, sampled_classes=16)
    with pytest.raises(ConfigError, match=r"stage1\.label_smoothing must be 0 with stage1\.sampled_classes"):
        Stage1Config(batch_size=32, sampled_classes=64, label_smoothing=0.1)


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


def test_without_the_classifier_a_sample_of_the_texts_still_counts_right_answers(network: MPFGVC) -> None:
    settings = Stage1Config(batch_size=4, sampled_classes=5, vision_weight=0)
    logits = Stage1(network, settings, Objective())(IMAGES, LABELS).logits
    whole = network.text_logits(network.image_encoder(IMAGES).embedding, network.text())
    assert logits.shape == (4, 9)
    seen = logits > -torch.inf
    assert seen.sum(dim=1).tolist() == [5] * 4
    assert seen.gather(1, LABELS[:, None]).all()
    torch.testing.assert_close(logits[seen], whole[seen])


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


def test_the_classes_of_the_batch_are_in_and_none_comes_twice() -> None:
    for seed in range(20):
        torch.manual_seed(seed)
        sample = sample_classes(SAMPLED, count=6, classes=13)
        assert len(set(sample.classes.tolist())) == 6
        assert {2, 7, 11} <= set(sample.classes.tolist())
        assert sample.classes[sample.labels].equal(SAMPLED)


def test_every_other_class_is_drawn_equally_often() -> None:
    torch.manual_seed(0)
    drawn = torch.cat([sample_classes(SAMPLED, count=6, classes=13).classes for _ in range(4000)])
    shares = drawn.bincount(minlength=13) / 4000
    others = [index for index in range(13) if index not in (2, 7, 11)]
    assert shares[others].tolist() == pytest.approx([3 / 10] * 10, abs=0.03)


def test_the_sum_over_all_classes_is_estimated_without_bias_and_its_logarithm_is_low() -> None:
    torch.manual_seed(1)
    logits = torch.randn(13, dtype=torch.float64)
    samples = [sample_classes(SAMPLED, count=6, classes=13) for _ in range(20_000)]
    sums = torch.stack([(logits[sample.classes] + sample.correction).logsumexp(0) for sample in samples])
    spread = sums.exp().std().item() / math.sqrt(len(samples))
    assert sums.exp().mean().item() == pytest.approx(logits.exp().sum().item(), abs=4 * spread)
    assert sums.mean() < logits.logsumexp(0)


def test_all_classes_are_a_sample_without_correction() -> None:
    sample = sample_classes(SAMPLED, count=13, classes=13)
    assert sorted(sample.classes.tolist()) == list(range(13))
    assert not sample.correction.any()
