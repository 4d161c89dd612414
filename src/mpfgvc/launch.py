"""Start Lightning Fabric: device, precision, and the processes that torchrun made.

Under torchrun every process calls `start_fabric` and they find each other with
no further flags. Only rank 0 speaks and writes.
"""

import os
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision

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
