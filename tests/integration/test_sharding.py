"""Sharded processes train to the losses of one, in a share of its memory, and other numbers of them go on.

A training is compared by the loss of its epochs over all processes, an evaluation by its file. Bytes are
those of the storage behind each tensor that a process holds.
"""

import copy
import csv
import gc
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.killed import KILLED, train_until
from tests.several_processes import in_processes
from torch import Tensor
from torch.distributed.tensor import DTensor

from mpfgvc import Config, train

pytestmark = [pytest.mark.slow("several processes"), pytest.mark.timeout(900)]

SHARDED = {"sharding": "full"}
KILLED_AT = 12, "checkpoint.pt"  # while a later checkpoint of stage 1 is written
LIMIT = 0.55


@pytest.fixture(scope="module")
def make(tiny: Callable[..., Config]) -> Callable[..., Config]:
    """Settings with everything that a checkpoint holds, and two micro-batches."""
    settings = {
        "model.text_tower.name": "mpfgvc-birds",
        "stage1.epochs": 3,
        "stage1.accumulate": 2,
        "stage1.patience": 9,
        "stage1.tower_lr": 3e-3,
        "stage1.warmup_epochs": 0.5,
        "stage2.patience": 9,
    }
    return lambda overrides: tiny(settings | overrides)


@pytest.fixture(scope="module")
def one(make: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one process."""
    return train(make({}), out=tmp_path_factory.mktemp("one") / "run").path


def killed(processes: int, config: Config, out: Path) -> None:
    assert KILLED in in_processes(processes, train_until, config, out, *KILLED_AT)
    assert (out / "checkpoint.pt").exists()
    assert not (out / "stage1.safetensors").exists()


def _resume(out: Path, given: dict[str, str]) -> None:
    train_until(None, out, None, given=given)


def _losses(run: Path) -> list[float]:
    with (run / "metrics.csv").open(newline="") as file:
        return [float(row["loss"]) for row in csv.DictReader(file) if row["epoch"] != "0"]


def _same(run: Path, one: Path) -> None:
    assert _losses(run) == pytest.approx(_losses(one), abs=1e-4)
    evaluations = [json.loads((folder / "evaluation.json").read_text()) for folder in (run, one)]
    assert evaluations[0] == evaluations[1]
    weights = [load_file(folder / "stage1.safetensors") for folder in (run, one)]
    assert weights[0].keys() == weights[1].keys()
    for name, weight in weights[1].items():
        torch.testing.assert_close(weights[0][name], weight, atol=2e-4, rtol=0, msg=name)


@pytest.mark.parametrize("settings", [{"sharding": "none"}, SHARDED], ids=["whole", "sharded"])
def test_two_processes_have_the_losses_of_one(
    make: Callable[..., Config], one: Path, tmp_path: Path, settings: dict[str, str]
) -> None:
    assert in_processes(2, train_until, make(settings), tmp_path / "run", None) == [0, 0]
    _same(tmp_path / "run", one)


def test_a_checkpoint_of_two_sharded_processes_is_resumed_on_one_and_on_four(
    make: Callable[..., Config], one: Path, tmp_path: Path
) -> None:
    killed(2, make(SHARDED), tmp_path / "killed")
    for processes in (1, 4):
        run = Path(shutil.copytree(tmp_path / "killed", tmp_path / str(processes)))
        assert in_processes(processes, _resume, run, {}) == [0] * processes
        _same(run, one)


def test_a_checkpoint_of_one_process_is_resumed_on_two_sharded_ones(
    make: Callable[..., Config], one: Path, tmp_path: Path
) -> None:
    killed(1, make({}), tmp_path / "run")
    assert in_processes(2, _resume, tmp_path / "run", SHARDED) == [0, 0]
    _same(tmp_path / "run", one)


VARIANTS: dict[str, dict[str, Any]] = {
    "attention": {},
    "rollout, whose blocks are not run as a whole": {"model.selection": "rollout"},
    "prompts in chunks, computed twice": {"model.prompt_chunk": 2},
    "a frozen tower": {"stage1.tower_lr": 0.0},
    "rotary positions": {"model.image_tower.name": "eva02_tiny_patch14_224", "model.image_tower.image_size": 42},
}
CLASSES = ("cross", "disc", "ring", "stripe", "wave")


def _gradients_of_variants(configs: dict[str, Config]) -> None:
    """One step of each variant: half a batch in each of two processes, and all of it in one."""
    from mpfgvc import MPFGVC
    from mpfgvc.distributed import start_fabric
    from mpfgvc.model.losses import Objective
    from mpfgvc.training.sharding import Placement, whole
    from mpfgvc.training.stages import Stage1

    fabric = start_fabric("cpu", "fp32", "full")
    for name, config in configs.items():
        network = MPFGVC.from_config(config.model, CLASSES, seed=3)
        stage = Stage1(network, config.stage1, Objective())
        alone = copy.deepcopy(stage).train()
        generator = torch.Generator().manual_seed(5)
        images = torch.randn(6, 3, *network.image_encoder.tower.image_size, generator=generator)
        labels = torch.tensor([0, 4, 2, 1, 3, 4])
        alone(images, labels).loss.backward()
        placement = Placement(stage, fabric)
        assert all(weight.numel() == 0 for weight in stage.parameters())
        mine = slice(3 * fabric.global_rank, 3 * fabric.global_rank + 3)
        wrapped = fabric.setup_module(placement.module)
        fabric.backward(wrapped.train()(images[mine], labels[mine]).loss)
        expected = {key: weight.grad for key, weight in alone.named_parameters() if weight.requires_grad}
        found = placement.module.trained()
        assert found.keys() == expected.keys()
        for key, weight in found.items():
            assert weight.grad is not None, (name, key)
            torch.testing.assert_close(whole(weight.grad), expected[key], atol=2e-5, rtol=1e-3, msg=f"{name}: {key}")
        placement.put_back()
        for (key, weight), other in zip(stage.named_parameters(), alone.parameters(), strict=True):
            assert torch.equal(weight, other), (name, key)


def test_the_gradients_of_two_sharded_processes_are_those_of_one(make: Callable[..., Config]) -> None:
    configs = {name: make(changes) for name, changes in VARIANTS.items()}
    assert in_processes(2, _gradients_of_variants, configs) == [0, 0]


def _bytes_after_a_step(config: Config, out: Path) -> None:
    """Write the bytes of all tensors that this process knows, with the gradients of a step in place."""
    from mpfgvc import MPFGVC
    from mpfgvc.distributed import start_fabric
    from mpfgvc.model.losses import Objective
    from mpfgvc.training.loop import build_optimizer
    from mpfgvc.training.sharding import Placement
    from mpfgvc.training.stages import Stage1

    fabric = start_fabric("cpu", "fp32", config.sharding)
    network = MPFGVC.from_config(config.model, CLASSES)
    stage = Stage1(network, config.stage1, Objective())
    placement = Placement(stage, fabric)
    wrapped = fabric.setup_module(placement.module)
    optimizer = fabric.setup_optimizers(build_optimizer(placement.module.parameter_groups(), config.stage1))
    batch = torch.randn(2, 3, *network.image_encoder.tower.image_size), torch.tensor([0, 3])
    fabric.backward(wrapped(*batch).loss)
    optimizer.step()
    (out / f"{config.sharding}-{fabric.global_rank}").write_text(str(sum(_storages().values())))


def _storages() -> dict[int, int]:
    """Bytes of every storage behind a tensor of this process; a spread tensor is seen by its local part."""
    gc.collect()
    tensors = [each for each in gc.get_objects() if isinstance(each, Tensor) and type(each) is not DTensor]
    storages = [tensor.untyped_storage() for tensor in tensors if tensor.device.type == "cpu"]
    return {storage.data_ptr(): storage.nbytes() for storage in storages}


def test_a_sharded_process_of_two_holds_at_most_055_of_the_bytes(make: Callable[..., Config], tmp_path: Path) -> None:
    for sharding in ("none", "full"):
        settings = {"model.image_tower.name": "vit_tiny_patch16_224", "sharding": sharding}
        assert in_processes(2, _bytes_after_a_step, make(settings), tmp_path) == [0, 0]
    whole = int((tmp_path / "none-0").read_text())
    assert whole > 16 * 5.4e6, "four numbers for each weight of the tower"
    for rank in range(2):
        assert int((tmp_path / f"full-{rank}").read_text()) <= LIMIT * whole
