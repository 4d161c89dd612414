"""What this machine runs a training with: versions, commit, device and command, for `environment.json`."""

import platform
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from mpfgvc.run_folder import Environment

PACKAGES = (
    "mpfgvc",
    "torch",
    "torchvision",
    "timm",
    "open_clip_torch",
    "lightning-fabric",
    "safetensors",
    "pillow",
    "numpy",
)


def describe_environment(*, device: str, precision: str, processes: int, results: Sequence[str] = ()) -> Environment:
    """What is there now. `device` is torch's name, `precision` Fabric's.

    `results` are paths from the top of the repository: changes there do not make its commit dirty.
    """
    return Environment(
        command=tuple(sys.argv),
        commit=commit_of(Path(__file__), results=results),
        device=torch.cuda.get_device_name() if device.startswith("cuda") else device,
        precision=precision,
        processes=processes,
        threads=torch.get_num_threads(),
        python=platform.python_version(),
        platform=platform.platform(),
        processor=processor_name(),
        packages={name: _version(name) for name in PACKAGES},
    )


def processor_name() -> str:
    """The processor's own name where the system tells it, as Linux does; else its kind."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def commit_of(file: Path, *, results: Sequence[str] = ()) -> str | None:
    """The commit of the repository that tracks `file`; with `-dirty` if anything but `results` has changed.

    None where the package was installed without its repository.
    """
    folder = str(file.parent)
    if _git(folder, "ls-files", "--error-unmatch", file.name) is None:
        return None
    commit = _git(folder, "rev-parse", "HEAD")
    excluded = [f":(top,exclude){path}" for path in results]
    changed = _git(folder, "status", "--porcelain", "--", ":/", *excluded)
    return commit if changed == "" else f"{commit}-dirty"


def peak_of_this_process() -> int | None:
    """The most bytes of memory that it has had; None where the system does not say (Windows)."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git(folder: str, *words: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", folder, *words], capture_output=True, text=True, check=True, timeout=10)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
