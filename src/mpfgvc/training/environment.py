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

RESULTS = ("benchmarks/results", "benchmarks/*.png", "benchmarks/README.md")
"""What benchmarks write: the next one is no less clean for it."""


def describe_environment(*, device: str, precision: str, processes: int) -> dict[str, Any]:
    """A dictionary for JSON."""
    return {
        "command": sys.argv,
        "commit": _commit(Path(__file__)),
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else device,
        "precision": precision,
        "processes": processes,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def _processor() -> str:
    """The processor's own name where the system tells it, as Linux does; else its kind."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit(file: Path) -> str | None:
    """The commit of the repository that tracks `file`; `-dirty` if anything but results differs from it.

    None where the package was installed without its repository.
    """
    folder = str(file.parent)
    if _git(folder, "ls-files", "--error-unmatch", file.name) is None:
        return None
    commit = _git(folder, "rev-parse", "HEAD")
    changed = _git(
        folder, "status", "--porcelain", "--", ":/", *(f":(top,exclude){path}" for path in RESULTS)
    )
    return commit if changed == "" else f"{commit}-dirty"


def _git(folder: str, *words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", folder, *words], capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
