"""A step counted on fake tensors costs what a real step costs, and the line over classes is straight."""

from dataclasses import replace

import pytest
import torch

from mpfgvc import load_config
from mpfgvc.scale import step_cost
from mpfgvc.scale.counting import Counting
from mpfgvc.scale.step_cost import encoding_flops, stage1_cost, stage2_cost
from mpfgvc.training.planned import PlannedTraining

TRAINING = PlannedTraining()
SMALL = {"model.prompt_chunk": 4}


def birds(**overrides):
    return load_config("synthetic", overrides=SMALL | overrides)


def test_a_counted_step_is_a_real_one():
    config = birds()
    cost = stage1_cost(config, TRAINING, classes=7, micro_batch=3, bf16=False)
    network = step_cost.blank_network(config.model, 7).to_empty(device="cpu")
    with torch.no_grad():
        for tensor in [*network.parameters(), *network.buffers()]:
            tensor.zero_()
    stage = TRAINING.stage1(network.train(), config, processes=1)
    images, labels = torch.zeros(3, 3, 96, 96), torch.zeros(3, dtype=torch.long)
    with Counting([*stage.module.parameters(), *stage.module.buffers(), images, labels]) as counting:
        stage.loss(images, labels).backward()
    assert cost.peak == pytest.approx(counting.peak, rel=0.01)
    assert cost.input_flops + cost.text_flops == counting.flops
    assert cost.sizes.trained == sum(p.nbytes for p in stage.module.parameters() if p.requires_grad)


@pytest.mark.parametrize("sampled", [None, 24])
def test_many_classes_lie_on_the_line_through_few(monkeypatch, sampled):
    config = birds(**{"stage1.batch_size": 16, "stage1.sampled_classes": sampled})
    line = stage1_cost(config, TRAINING, classes=32, micro_batch=2, bf16=False)
    monkeypatch.setattr(step_cost, "CHUNKS", (2, 100))
    direct = stage1_cost(config, TRAINING, classes=32, micro_batch=2, bf16=False)
    assert line.peak == pytest.approx(direct.peak, rel=0.02)
    assert line.text_flops == pytest.approx(direct.text_flops)
    assert line.sizes == direct.sizes


def test_memory_grows_with_the_micro_batch_and_not_with_the_chunks():
    small, large = (
        stage1_cost(birds(), TRAINING, classes=8, micro_batch=size, bf16=False) for size in (8, 32)
    )
    assert large.peak / small.peak == pytest.approx(4, rel=0.15)
    assert small.text_flops == large.text_flops


def test_the_names_of_pretrained_towers_fetch_nothing(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a plan fetches nothing")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", refuse)
    monkeypatch.setattr("timm.models._builder.load_pretrained", refuse)
    monkeypatch.setattr("open_clip.download_pretrained", refuse)
    image, text = encoding_flops(load_config("cub").model)
    assert 45e9 < 100 * text < 55e9  # 38 M weights, 7 tokens, but one token in the last block
    assert (
        10 / 12 * 156e9 < image < 11 / 12 * 156e9
    )  # 10 whole blocks of 12, and the selection in the last two


def test_stage_2_costs_grow_with_classes():
    few, many = (stage2_cost(birds(), TRAINING, classes=count, batch=16) for count in (10, 1000))
    assert many.input_flops > 5 * few.input_flops
    assert many.sizes.heads > few.sizes.heads
    assert replace(few, peaks=many.peaks).peak == many.peak
