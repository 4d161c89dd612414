"""Start Lightning Fabric: device, precision, and the processes that torchrun made.

Under torchrun every process calls `start_fabric` and they find each other with
no further flags. Only rank 0 speaks and writes.
"""

import os
import shlex
import shutil
import sysconfig
from pathlib import Path
from typing import Any

import torch
import torch.distributed as distributed
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from torch import Tensor

from mpfgvc.config import Config
from mpfgvc.errors import ConfigError


def start_fabric(config: Config) -> Fabric:
    """A launched Fabric for the config's device and precision.

    Raises ConfigError for a device that this machine does not have.
    """
    accelerator = find_device(config.device)
    # With devices="auto", Fabric on a CPU under torchrun would start runs that know nothing of each other.
    options: dict[str, Any] = {"devices": int(os.environ.get("LOCAL_WORLD_SIZE", "1"))}
    if "LOCAL_WORLD_SIZE" in os.environ:
        options["num_nodes"] = int(os.environ["WORLD_SIZE"]) // options["devices"]
        options["strategy"] = "ddp"
    if _bf16(config.precision, accelerator):
        options["plugins"] = _Bf16(precision="bf16-mixed", device=accelerator)
    fabric = Fabric(accelerator=accelerator, **options)
    fabric.launch()
    return fabric


def find_device(device: str) -> str:
    """The device meant: `auto` takes an accelerator if there is one.

    Raises ConfigError for a device that this machine does not have.
    """
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if device == "auto":
        return next(name for name, present in available.items() if present)
    if not available[device]:
        present = ", ".join(name for name, there in available.items() if there)
        raise ConfigError(f"device must be one that is present ({present}) or auto, got {device}")
    return device


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on `device`; to a CUDA device, from pinned memory, nobody waits for the copy.

    Other devices could read memory that has been given back by then.
    """
    return tensor.to(device, non_blocking=device.type == "cuda")


def why_not_compile(fabric: Fabric) -> str | None:
    """What `torch.compile` lacks here, for a note; None if nothing."""
    if fabric.world_size > 1:
        return "several processes have not been tried"
    name, default = ("CC", "gcc") if fabric.device.type == "cuda" else ("CXX", "g++")
    compiler = shlex.split(os.environ.get(name, default))[0]
    if shutil.which(compiler) is None:
        return f"there is no compiler {compiler}; install one, or name it in the variable {name}"
    if fabric.device.type == "cuda" and not Path(sysconfig.get_path("include"), "Python.h").exists():
        return "Python's header files (python3-dev) are missing"
    return None


def gather_in_order(values: Tensor, positions: Tensor) -> Tensor:
    """Values of all processes, ordered by their positions; each process may hold another number."""
    parts = [(values, positions)]
    if distributed.is_available() and distributed.is_initialized():
        parts = [(values, positions)] * distributed.get_world_size()
        distributed.all_gather_object(parts, (values, positions))
    order = torch.cat([part[1] for part in parts]).argsort()
    return torch.cat([part[0] for part in parts])[order]


class _Bf16(MixedPrecision):
    """bf16 where autocast takes it. Fabric's own rounds the inputs, too: embeddings need all their bits."""

    def convert_input(self, data: Any) -> Any:
        """The inputs as they are."""
        return data


def _bf16(precision: str, accelerator: str) -> bool:
    return precision == "bf16" or (precision == "auto" and _multiplies_bf16(accelerator))


def _multiplies_bf16(accelerator: str) -> bool:
    """Whether the device has instructions for bf16; a CPU without them is slower with it than without."""
    if accelerator == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return accelerator == "cpu" and bool(torch.cpu._is_avx512_bf16_supported())
