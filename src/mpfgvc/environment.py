"""What a run was made with: versions, commit, machine and command, for its `environment.json`."""

import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

PACKAGES = (
    "mpfgvc",
    "torch",
    "torchvision",
    "timm",
    "open_clip_torch",
    "lightning-fabric",
    "torchmetrics",
    "safetensors",
    "pillow",
    "numpy",
)


def describe_environment(*, device: str, precision: str, processes: int) -> dict[str, Any]:
    """A dictionary for JSON."""
    return {
        "command": sys.argv,
        "commit": _commit(),
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else device,
        "precision": precision,
        "processes": processes,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of this package, with `-dirty` if its files differ; None if installed without git."""
    folder = str(Path(__file__).parent)
    commit = _git("-C", folder, "rev-parse", "HEAD")
    changed = _git("-C", folder, "status", "--porcelain", ".")
    return f"{commit}-dirty" if commit and changed else commit


def _git(*words: str) -> str | None:
    try:
        done = subprocess.run(["git", *words], capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
