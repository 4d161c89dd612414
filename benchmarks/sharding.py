"""What a process holds with `sharding: full` beside DDP: bytes, peak memory, time of a step, and the losses.

    python benchmarks/sharding.py [--tower vit_small_patch16_224 --text mpfgvc-small --steps 3]

Steps of stage 1 as the loop makes them (forward, backward, clipping, AdamW), in fp32 on a CPU, one thread in
each process, gloo between them. Towers have random weights: speed and memory do not depend on them.

    bytes   of weights, gradients and optimiser state, counted by the storage behind each tensor
    peak    resident memory during the steps, above what the process held before the network was built
    ms      of a step, the median; processes share the cores of one machine, so this is no speed-up
    losses  of each step over all processes; the largest difference to those of one process
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from common import untrained_network, vit_base, write_result
from mpfgvc.config import ModelConfig, Stage1Config, TextTowerConfig
from mpfgvc.distributed import start_fabric
from mpfgvc.model.losses import Objective
from mpfgvc.training.loop import build_optimizer
from mpfgvc.training.sharding import Placement, local
from mpfgvc.training.stages import Stage1
from side_by_side import Peak

Way = Literal["none", "full"]
CASES: tuple[tuple[int, Way], ...] = ((1, "none"), (2, "none"), (2, "full"), (4, "full"))
LIMIT = 0.55
"""Of DDP's bytes in each of two processes."""
LOSS_LIMIT = 1e-4


@dataclass(frozen=True, kw_only=True)
class Held:
    """What the process that holds most has, in MB, and its times."""

    weights: float
    gradients: float
    optimizer: float
    peak: float
    milliseconds: float
    losses: list[float]

    @property
    def counted(self) -> float:
        """MB of weights, gradients and optimiser state."""
        return self.weights + self.gradients + self.optimizer


def main() -> None:
    options = _parse()
    if options.worker is not None:
        _work(options)
        return
    found = {case: _run(options, *case) for case in CASES}
    one, ddp = found[1, "none"], found[2, "none"]
    rows = []
    for (processes, sharding), held in found.items():
        row = {
            "processes": processes,
            "sharding": sharding,
            **asdict(held),
            "counted": held.counted,
            "counted_of_ddp": held.counted / ddp.counted,
            "peak_of_ddp": held.peak / ddp.peak,
            "time_of_ddp": held.milliseconds / ddp.milliseconds,
            "loss_difference": max(abs(a - b) for a, b in zip(held.losses, one.losses, strict=True)),
        }
        rows.append(row)
        print(_line(row), flush=True)
    what = {name: getattr(options, name) for name in ("tower", "text", "classes", "batch", "steps", "side")}
    write_result("sharding", {"name": "sharding", "limit": LIMIT, **what, "rows": rows})
    shared = found[2, "full"].counted / ddp.counted
    if shared > LIMIT or max(row["loss_difference"] for row in rows) > LOSS_LIMIT:
        raise SystemExit(f"wanted: at most {LIMIT} of DDP's bytes and losses within {LOSS_LIMIT}")


def _parse() -> Namespace:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--tower", default="vit_base_patch16_224")
    parser.add_argument("--text", default="ViT-B-16")
    parser.add_argument("--classes", type=int, default=20)
    parser.add_argument("--batch", type=int, default=4, help="photographs of all processes; a multiple of 4")
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--worker", choices=("none", "full"), help="used by the script itself")
    parser.add_argument("--to", type=Path, help="used by the script itself")
    return parser.parse_args()


def _run(options: Namespace, processes: int, sharding: Way) -> Held:
    """The worst of what so many processes have."""
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    names = ("tower", "text", "classes", "batch", "side", "steps")
    words = [f"--{name}={getattr(options, name)}" for name in names]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, *(launch if processes > 1 else []), __file__, *words]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        subprocess.run([*command, f"--worker={sharding}", f"--to={folder}"], check=True, env=environment)
        held = [Held(**json.loads(path.read_text())) for path in Path(folder).iterdir()]
    return Held(
        weights=max(each.weights for each in held),
        gradients=max(each.gradients for each in held),
        optimizer=max(each.optimizer for each in held),
        peak=max(each.peak for each in held),
        milliseconds=max(each.milliseconds for each in held),
        losses=held[0].losses,
    )


def _work(options: Namespace) -> None:
    """The steps of one process; writes what it holds after them."""
    torch.set_num_threads(1)
    fabric = start_fabric("cpu", "fp32", options.worker)
    peak = Peak()
    text = TextTowerConfig(name=options.text, pretrained=None)
    config = ModelConfig(image_tower=vit_base(options.side, options.tower), text_tower=text, kept_tokens=24)
    network, settings = untrained_network(config, options.classes), Stage1Config(batch_size=options.batch)
    placement = Placement(Stage1(network, settings, Objective()), fabric)
    wrapped = fabric.setup_module(placement.module).train()
    optimizer = fabric.setup_optimizers(build_optimizer(placement.module.parameter_groups(), settings))
    peak.again()
    generator, seconds, losses = torch.Generator().manual_seed(0), [], []
    for _ in range(options.steps):
        images = torch.randn(options.batch, 3, *network.image_encoder.tower.image_size, generator=generator)
        labels = torch.randint(options.classes, (options.batch,), generator=generator)
        mine = slice(fabric.global_rank, None, fabric.world_size)
        fabric.barrier()
        started = time.perf_counter()
        optimizer.zero_grad()
        loss = wrapped(images[mine], labels[mine]).loss
        fabric.backward(loss)
        fabric.clip_gradients(wrapped, optimizer, max_norm=1.0)
        optimizer.step()
        seconds.append(time.perf_counter() - started)
        losses.append(float(fabric.all_reduce(loss.detach(), reduce_op="mean")))
    weights = [*placement.module.parameters()]
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    states = [value for state in optimizer.state.values() for value in state.values()]
    held = Held(
        weights=_megabytes([*weights, *network.parameters()]),
        gradients=_megabytes(gradients),
        optimizer=_megabytes(states),
        peak=peak.megabytes(),
        milliseconds=1000 * statistics.median(seconds),
        losses=losses,
    )
    (options.to / str(fabric.global_rank)).write_text(json.dumps(asdict(held)))


def _megabytes(tensors: Iterable[Tensor]) -> float:
    """Of the storages behind some tensors, each counted once."""
    storages = [local(tensor.detach()).untyped_storage() for tensor in tensors]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values()) / 2**20


def _line(row: dict[str, float]) -> str:
    parts = f"{row['weights']:7.0f} {row['gradients']:7.0f} {row['optimizer']:7.0f} MB"
    ratios = f"{row['counted_of_ddp']:5.2f} of DDP, peak {row['peak']:7.0f} MB {row['peak_of_ddp']:5.2f}"
    times = f"{row['milliseconds']:7.0f} ms {row['time_of_ddp']:5.2f}"
    return f"{row['processes']} {row['sharding']:4s} {parts}  {ratios}  {times}  {row['loss_difference']:.1e}"


if __name__ == "__main__":
    main()
