"""Start Lightning Fabric: device, precision, and the processes that torchrun or srun started.

Every process calls `start_fabric`, and they find each other with no further flags. Only rank 0 speaks and
writes. At the end, what processes tell each other.
"""

import os
import shlex
import shutil
import sysconfig
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
import torch.distributed as distributed
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy
from lightning_fabric.strategies.model_parallel import ModelParallelStrategy
from lightning_fabric.strategies.strategy import Strategy
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

from mpfgvc.errors import ConfigError, MpfgvcError
from mpfgvc.launcher import Processes, main_address, main_port
from mpfgvc.process_group import start_group, store_outlives_processes
from mpfgvc.terms import Device, PrecisionSetting, Sharding

T = TypeVar("T")
TIMEOUT = 3600.0
"""Seconds that processes wait for each other, where no setting says how long."""


def start_fabric(
    device: Device,
    precision: PrecisionSetting,
    sharding: Sharding = "none",
    *,
    timeout: float = TIMEOUT,
) -> Fabric:
    """A launched Fabric for a device and precision, with the processes that torchrun or srun started.

    They wait `timeout` seconds for one that does not answer; the first call in a process decides. With `full`
    sharding several of them get modules that are sharded already (training/sharding.py).

    Raises ConfigError for a device that this machine does not have.
    """
    accelerator, processes, patience = find_device(device), Processes.here(), timedelta(seconds=timeout)
    plugins: list[Any] = [_Launched(processes) if processes.world > 1 else LightningEnvironment()]
    if _bf16(precision, accelerator):
        plugins.append(_Bf16(precision="bf16-mixed", device=accelerator))
    fabric = Fabric(
        accelerator=accelerator,
        # With devices="auto" on a CPU under torchrun, Fabric starts runs that know nothing of each other.
        devices=processes.local,
        num_nodes=processes.nodes,
        strategy=_strategy(processes.world, sharding, patience),
        plugins=plugins,
    )
    if processes.world > 1 and store_outlives_processes():
        start_group(fabric.device, processes, patience)  # Fabric takes the group that is there
    fabric.launch()
    return fabric


def _strategy(processes: int, sharding: Sharding, timeout: timedelta) -> str | Strategy:
    if processes == 1:
        return "auto"
    if sharding == "none":
        return DDPStrategy(timeout=timeout)
    return ModelParallelStrategy(
        lambda module, mesh: module,
        data_parallel_size=processes,
        tensor_parallel_size=1,
        timeout=timeout,
    )


def sharding_mesh(fabric: Fabric) -> DeviceMesh | None:
    """The processes that share the tensors of a module; None if each of them holds all."""
    if not isinstance(fabric.strategy, ModelParallelStrategy):
        return None
    return fabric.strategy.device_mesh["data_parallel"]


def find_device(device: str) -> str:
    """The device meant: `auto` takes an accelerator if there is one; `cuda:1` is the second GPU.

    The only device of its kind may be numbered, as Fabric does: `mps:0`.

    Raises ConfigError for a device that this machine does not have.
    """
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    present = [name for name, there in available.items() if there]
    if device == "auto":
        return present[0]
    numbered = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    if device not in [*present, *numbered] and device.removesuffix(":0") not in present:
        rule = f"one that is present ({', '.join([*present, *numbered])}) or auto"
        raise ConfigError(f"device must be {rule}, got {device}")
    return device


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on `device`. The copy to a CUDA device is asynchronous.

    On other devices it is not: they could read memory that has been freed by then.
    """
    return tensor.to(device, non_blocking=device.type == "cuda")


def why_not_compile(fabric: Fabric) -> str | None:
    """Why `torch.compile` cannot be used here, for a note; None if it can."""
    if fabric.world_size > 1:
        return "several processes have not been tried"
    name, default = ("CC", "gcc") if fabric.device.type == "cuda" else ("CXX", "g++")
    compiler = shlex.split(os.environ.get(name, default))[0]
    if shutil.which(compiler) is None:
        return f"no compiler {compiler} was found; install one, or name it in the variable {name}"
    if fabric.device.type == "cuda" and not Path(sysconfig.get_path("include"), "Python.h").exists():
        return "Python's header files (python3-dev) are missing"
    return None


def from_first(fabric: Fabric, compute: Callable[[], T]) -> T:
    """What the first process computes, for all of them; a user error there ends every process."""
    result: T | None = None
    refusal: MpfgvcError | None = None
    if fabric.global_rank == 0:
        try:
            result = compute()
        except MpfgvcError as error:
            refusal = error
    result, refusal = fabric.broadcast((result, refusal))
    if refusal is not None:
        refusal.said_by_first = fabric.global_rank > 0
        raise refusal
    return cast("T", result)


def gather(value: T) -> list[T]:
    """The values of all processes, in the order of their ranks. They travel as pickles."""
    values = [value]
    if distributed.is_available() and distributed.is_initialized():
        values = [value] * distributed.get_world_size()
        distributed.all_gather_object(values, value)
    return values


def gather_in_order(values: Tensor, positions: Tensor) -> Tensor:
    """Values of all processes, ordered by their positions; processes may hold different numbers of them."""
    parts = gather((values, positions))
    order = torch.cat([part[1] for part in parts]).argsort()
    return torch.cat([part[0] for part in parts])[order]


class _Launched(ClusterEnvironment):
    """Processes that exist already. Fabric's own classes guess who started them, and guess SLURM wrongly."""

    def __init__(self, processes: Processes):
        super().__init__()
        self.processes = processes

    @property
    def creates_processes_externally(self) -> bool:
        """They exist already."""
        return True

    @property
    def main_address(self) -> str:
        """The host of rank 0."""
        return main_address()

    @property
    def main_port(self) -> int:
        """The port of rank 0."""
        return main_port()

    @staticmethod
    def detect() -> bool:
        """Never by itself."""
        return False

    def world_size(self) -> int:
        """All processes."""
        return self.processes.world

    def set_world_size(self, size: int) -> None:
        """The launcher has set it."""

    def global_rank(self) -> int:
        """This process among all."""
        return self.processes.rank

    def set_global_rank(self, rank: int) -> None:
        """The launcher has set it."""

    def local_rank(self) -> int:
        """This process among those of its machine."""
        return self.processes.local_rank

    def node_rank(self) -> int:
        """This machine among all."""
        return self.processes.rank // self.processes.local


class _Bf16(MixedPrecision):
    """bf16 where autocast takes it. Fabric's own rounds the inputs, too: embeddings need all their bits."""

    def convert_input(self, data: Any) -> Any:
        """The inputs as they are."""
        return data


def _bf16(precision: PrecisionSetting, accelerator: str) -> bool:
    return precision == "bf16" or (precision == "auto" and _multiplies_bf16(accelerator))


def _multiplies_bf16(accelerator: str) -> bool:
    """Whether the device has instructions for bf16; a CPU without them is slower with it than without."""
    if accelerator == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return accelerator == "cpu" and cpu_multiplies_bf16()


def cpu_multiplies_bf16() -> bool:
    """Whether this CPU has instructions for products in bf16."""
    return bool(torch.cpu._is_avx512_bf16_supported())
