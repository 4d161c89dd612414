"""What a training reloads: the checkpoint of the stage that runs, and what stage 1 trained.

Both are written atomically, and read without unpickling code.
"""

import hashlib
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as serialise
from torch import Tensor

from mpfgvc.errors import CheckpointError, one_line
from mpfgvc.storage import write_bytes


@dataclass(kw_only=True)
class TrainingState:
    """Where a stage stands: its trained tensors and everything that the next step depends on."""

    stage: str
    step: int = 0
    identity: str = ""
    """Fingerprint of classes, photographs and frozen towers; a checkpoint of others is refused."""
    weights: dict[str, Tensor] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)
    average: dict[str, Tensor] = field(default_factory=dict)
    best: dict[str, Tensor] = field(default_factory=dict)
    best_accuracy: float = -1.0
    stale_epochs: int = 0
    sums: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    """Loss, right answers and photographs of the current epoch so far, over all processes."""


def save_state(path: Path, state: TrainingState) -> None:
    """Write the checkpoint. Raises OutputError; the one before it stays."""
    buffer = io.BytesIO()
    torch.save(vars(state), buffer)
    write_bytes(path, buffer.getvalue())


def load_state(path: Path) -> TrainingState | None:
    """The checkpoint; None before the first. Raises CheckpointError if it is broken."""
    if not path.exists():
        return None
    try:
        return TrainingState(**torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # torch.load raises whatever the bytes suggest
        hint = "restore it, or delete it to start the run anew"
        raise CheckpointError(f"{path} is broken ({one_line(error, 120)}); {hint}") from None


def save_stage1(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Keep what stage 1 trained. Raises OutputError."""
    write_bytes(path, serialise({name: tensor.contiguous() for name, tensor in weights.items()}))


def load_stage1(path: Path) -> dict[str, Tensor] | None:
    """What stage 1 trained, or None if it has not ended. Raises CheckpointError if broken."""
    if not path.exists():
        return None
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} is broken ({error}); restore it, or start anew") from None


def fingerprint(tensors: Iterable[Tensor], texts: Iterable[str] = ()) -> str:
    """A hash over the bytes of some tensors and texts, in their order."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode() + b"\0")
    for tensor in tensors:
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
