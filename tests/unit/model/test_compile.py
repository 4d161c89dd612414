"""Both towers and the whole step of stage 1 are one graph for torch.compile: no break, no fallback."""

import pytest
import torch

from mpfgvc.config import ImageTowerConfig, ModelConfig, Stage1Config, TextTowerConfig
from mpfgvc.losses import Objective
from mpfgvc.model.network import MPFGVC
from mpfgvc.stages import Stage1


@pytest.mark.parametrize("name", ["test_vit", "vit_small_patch14_reg4_dinov2", "eva02_tiny_patch14_224"])
def test_the_step_of_stage_1_is_one_graph(name: str, text_config: TextTowerConfig) -> None:
    image = ImageTowerConfig(name=name, pretrained=False, image_size=[28, 42] if "14" in name else [32, 48])
    config = ModelConfig(image_tower=image, text_tower=text_config, kept_tokens=3, prompt_chunk=4)
    network = MPFGVC.from_config(config, [f"class {index}" for index in range(9)])
    stage = Stage1(network, Stage1Config(), Objective())
    batch = torch.randn(4, 3, *network.image_encoder.tower.input.image_size), torch.tensor([5, 0, 5, 8])
    torch.compiler.reset()
    loss = torch.compile(stage, fullgraph=True, backend="aot_eager")(*batch).loss
    torch.testing.assert_close(loss, stage(*batch).loss)
    loss.backward()
    gradient = network.text.context.grad
    assert gradient is not None
    assert gradient.any()
