"""`torch.compile` finds no graph break: in the step of stage 1, nor in what inference runs."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from mpfgvc.config import ImageTowerConfig, ModelConfig, Stage1Config, TextTowerConfig
from mpfgvc.model.losses import Objective
from mpfgvc.model.network import MPFGVC
from mpfgvc.training.stages import Stage1, StepResult


@pytest.mark.slow("compiles forward and backward of a step")
def test_the_step_of_stage_1_is_one_graph(text_config: TextTowerConfig) -> None:
    image = ImageTowerConfig(name="test_vit", pretrained=False, image_size=[32, 48])
    config = ModelConfig(image_tower=image, text_tower=text_config, kept_tokens=3, prompt_chunk=4)
    network = MPFGVC.from_config(config, [f"class {index}" for index in range(9)])
    stage = Stage1(network, Stage1Config(), Objective())
    batch = torch.randn(4, 3, *network.image_encoder.tower.input.image_size), torch.tensor([5, 0, 5, 8])
    torch.compiler.reset()
    compiled = _loss_and_gradients(torch.compile(stage, fullgraph=True, backend="aot_eager"), stage, batch)
    torch.testing.assert_close(compiled, _loss_and_gradients(stage, stage, batch))


@pytest.mark.parametrize("name", ["vit_small_patch14_reg4_dinov2", "eva02_tiny_patch14_224"])
def test_the_image_encoder_compiles_without_a_graph_break(name: str, encoder_of: Callable[[str], Any]) -> None:
    encoder, images = encoder_of(name)
    compiled = torch.compile(encoder, fullgraph=True, backend="eager")
    with torch.no_grad():
        for actual, expected in zip(compiled(images), encoder(images), strict=True):
            torch.testing.assert_close(actual, expected, atol=1e-6, rtol=0)


def _loss_and_gradients(
    step: Callable[..., StepResult], stage: Stage1, batch: tuple[torch.Tensor, torch.Tensor]
) -> dict[str, torch.Tensor]:
    stage.zero_grad()
    loss = step(*batch).loss
    loss.backward()
    gradients = {name: weight.grad for name, weight in stage.trained().items() if weight.grad is not None}
    assert len(gradients) > 20
    return {"loss": loss.detach(), **gradients}
