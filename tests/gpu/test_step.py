"""What only a CUDA device can show: steps that never wait for it, bf16, compiled code."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from mpfgvc import Predictor, load_config, train
from mpfgvc.config import Config, ImageTowerConfig, ModelConfig, Stage1Config, TextTowerConfig
from mpfgvc.distributed import start_fabric
from mpfgvc.model.losses import Objective
from mpfgvc.model.network import MPFGVC
from mpfgvc.recipes_io import recipe
from mpfgvc.run_folder import RunFolder
from mpfgvc.training.checkpoint import TrainingState
from mpfgvc.training.loop import Loop, Session
from mpfgvc.training.stages import Stage1

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


def _stage(prompt_chunk: int = 256) -> Stage1:
    config = ModelConfig(
        image_tower=ImageTowerConfig(name="vit_tiny_patch16_224", pretrained=False, image_size=64),
        text_tower=TextTowerConfig(name="mpfgvc-small", pretrained=None),
        kept_tokens=4,
        prompt_chunk=prompt_chunk,
    )
    network = MPFGVC.from_config(config, [f"class {index}" for index in range(40)])
    settings = Stage1Config(epochs=1, batch_size=8)
    return Stage1(network, settings, Objective()).cuda().train()


class _WatchedBatches:
    """Two batches on the device. While the second one is trained on, waiting for the device is an error."""

    steps = 2

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        images, labels = _batch()
        yield images, labels
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield images, labels
        finally:
            torch.cuda.set_sync_debug_mode("default")


def _session(folder: Path) -> Session:
    fabric = start_fabric("cuda", "bf16")
    return Session(fabric=fabric, folder=RunFolder(folder), log=None, seed=0, checkpoint_steps=100)


def _batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(8, 3, 64, 64, generator=generator)
    return images.cuda(), torch.randint(40, (8,), generator=generator).cuda()


@pytest.mark.parametrize("settings", [{}, {"prompt_chunk": 16}], ids=str)
def test_a_step_never_waits_for_the_device(settings: dict[str, int], tmp_path: Path) -> None:
    state = TrainingState(stage="stage1")
    Loop(_stage(**settings), _WatchedBatches(), _session(tmp_path), validate=None, state=state).run()
    assert state.step == 2


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_bf16_gives_the_loss_of_fp32_up_to_its_rounding(compiled: bool) -> None:
    stage = _stage()
    exact = stage(*_batch()).loss
    step = torch.compile(stage) if compiled else stage
    with torch.autocast("cuda", torch.bfloat16):
        rounded = step(*_batch()).loss
    torch.testing.assert_close(rounded.float(), exact, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_a_run_on_the_gpu_predicts_the_same_there_and_on_the_cpu(
    tiny_birds: Callable[..., Config], tmp_path: Path, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    run = train(tiny_birds(compile=compiled), out=tmp_path / "run")
    assert run.metrics is not None
    image = torch.rand(96, 96, 3, generator=torch.Generator().manual_seed(0)).numpy()
    on_gpu, on_cpu = (_probabilities(run.model_dir, device, image) for device in ("cuda", "cpu"))
    assert on_gpu == pytest.approx(on_cpu, abs=1e-3)


def _probabilities(model: Path, device: str, image: np.ndarray) -> dict[str, float]:
    guesses = Predictor.from_pretrained(model, device=device)(image)
    return {guess.label: guess.probability for guess in guesses}


@pytest.fixture
def tiny_birds() -> Callable[..., Config]:
    """The default recipe cut down to a few steps."""

    def make(**settings: object) -> Config:
        few = {"data.birds.species": 3, "data.birds.train": 8, "data.birds.test": 4}
        short = {"stage1.epochs": 2, "stage1.batch_size": 8, "stage2.epochs": 2, "device": "cuda"}
        short |= {"model.kept_tokens": None}  # a tie between patches may be broken either way
        return load_config(recipe("synthetic"), overrides=few | short | settings)

    return make
