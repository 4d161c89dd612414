"""Processes with torch: Lightning Fabric, the device, the precision, and what processes tell each other.

Every process calls `start_fabric`, and they find each other with no further flags. Only rank 0 speaks and
writes.

torchrun keeps one key-value store over all its restarts, and torch puts the addresses of the processes under
the same keys each time. A process that was started again may then read where one that is gone has listened,
and is refused or waits for it (pytorch/pytorch#135712). The restarts cannot be counted instead: torchrun
counts those of each machine apart. So the processes agree on a name first, and all keys are under it.
"""

import atexit
import json
import os
import shlex
import shutil
import sysconfig
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar, cast
from uuid import uuid4

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy
from lightning_fabric.strategies.model_parallel import ModelParallelStrategy
from lightning_fabric.strategies.strategy import Strategy
from torch import Tensor, distributed
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from mpfgvc.errors import ConfigError, MpfgvcError
from mpfgvc.processes import Processes
from mpfgvc.terms import Device, PrecisionSetting, Sharding

T = TypeVar("T")
TIMEOUT = 3600.0
"""Seconds that processes wait for each other, where no setting says how long."""
_PAUSE = 0.05
"""Seconds between two looks at the store."""


def start_fabric(
    device: Device, precision: PrecisionSetting, sharding: Sharding = "none", *, timeout: float = TIMEOUT
) -> Fabric:
    """A launched Fabric for a device and precision, with the processes that torchrun started.

    They wait `timeout` seconds for one that does not answer; the first call in a process decides. With `full`
    sharding several of them get modules that are sharded already (training/sharding.py).

    Raises ConfigError for a device that this machine does not have, or several tasks of srun without torchrun.
    """
    tasks = os.environ.get("SLURM_STEP_NUM_TASKS", "1")
    if tasks != "1" and Processes.here().world == 1:
        hint = "start one task a node, and the processes by torchrun: srun --ntasks-per-node 1 torchrun ..."
        raise ConfigError(f"srun started {tasks} tasks, which know nothing of each other; {hint}")
    accelerator, processes, patience = find_device(device), Processes.here(), timedelta(seconds=timeout)
    # Fabric would guess who started the processes, and guess SLURM wrongly.
    plugins: list[Any] = [TorchElasticEnvironment() if processes.world > 1 else LightningEnvironment()]
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
        lambda module, mesh: module, data_parallel_size=processes, tensor_parallel_size=1, timeout=timeout
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
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
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


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Let torch's CPU generator start from `seed` inside the block, and continue as before after it.

    The generators of accelerators are left alone.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


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


class _Bf16(MixedPrecision):
    """bf16 where autocast takes it. Fabric's own rounds the inputs, too: embeddings need all their bits."""

    def convert_input(self, data: Any) -> Any:
        return data


def _bf16(precision: PrecisionSetting, accelerator: str) -> bool:
    """Whether to compute in bf16; a CPU without instructions for it is slower with it than without."""
    if precision != "auto":
        return precision == "bf16"
    if accelerator == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return accelerator == "cpu" and cpu_multiplies_bf16()


def cpu_multiplies_bf16() -> bool:
    """Whether this CPU has instructions for products in bf16."""
    return bool(torch.cpu._is_avx512_bf16_supported())


def store_outlives_processes(variables: Mapping[str, str] = os.environ) -> bool:
    """Whether torchrun holds the store, so that it may know processes that are gone."""
    return variables.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


def start_group(device: torch.device, processes: Processes, timeout: timedelta) -> None:
    """Start the process group over torchrun's store, once for each process.

    All processes must call it. Raises TimeoutError, or what torch raises, if one does not come in time.
    """
    if distributed.is_initialized():
        return
    store, _, _ = next(rendezvous("env://", timeout=timeout))
    name = agree_on_name(PrefixStore("mpfgvc", store), processes, timeout)
    backend = distributed.get_default_backend_for_device(device)
    distributed.init_process_group(
        backend,
        store=PrefixStore(name, store),
        rank=processes.rank,
        world_size=processes.world,
        timeout=timeout,
        device_id=None if device.type == "cpu" else device,
    )
    if backend == "nccl":  # it warns of groups that are left behind, so Fabric ends its own as well
        atexit.register(_end_group)


def _end_group() -> None:
    if distributed.is_initialized():
        distributed.destroy_process_group()


def agree_on_name(store: Store, processes: Processes, timeout: timedelta) -> str:
    """A name that all processes of this start get, and those of no other start.

    Each process says that it is here by a mark that only it has. The first one calls them together: by a new
    name, and the marks that it sees. Who finds its own among them says yes; when all have, the first one
    says so, and the name holds. What earlier starts have left is waited out, as processes that are gone
    never answer to a new name.

    Raises TimeoutError if a process does not come in time.
    """
    mark, end = uuid4().hex, time.monotonic() + timeout.total_seconds()
    store.set(f"mark/{processes.rank}", mark)
    seek = _Caller(store, processes.world).look if processes.is_first else _Called(store, mark).look
    while (name := seek()) is None:
        if time.monotonic() > end:
            seconds = timeout.total_seconds()
            raise TimeoutError(f"not all of {processes.world} processes came within {seconds:g} seconds")
        time.sleep(_PAUSE)
    return name


class _Caller:
    """The first process. It calls by another name whenever it sees other marks."""

    def __init__(self, store: Store, world: int) -> None:
        self.store, self.keys = store, [f"mark/{rank}" for rank in range(world)]
        self.name, self.marks = "", list[str]()

    def look(self) -> str | None:
        """The name, once all have said yes to it."""
        if not self.store.check(self.keys):
            return None
        marks = [self.store.get(key).decode() for key in self.keys]
        if marks != self.marks:
            self.name, self.marks = uuid4().hex, marks
            self.store.set("call", json.dumps({"name": self.name, "marks": marks}))
        if not self.store.check([f"{self.name}/{mark}" for mark in marks[1:]]):
            return None
        self.store.set(f"{self.name}/holds", "")
        return self.name


class _Called:
    """Any other process."""

    def __init__(self, store: Store, mark: str) -> None:
        self.store, self.mark = store, mark

    def look(self) -> str | None:
        """The name, once it holds."""
        if not self.store.check(["call"]):
            return None
        call = json.loads(self.store.get("call"))
        if self.mark not in call["marks"]:
            return None
        self.store.set(f"{call['name']}/{self.mark}", "")
        return str(call["name"]) if self.store.check([f"{call['name']}/holds"]) else None
