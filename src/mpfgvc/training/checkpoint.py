"""What a training reloads: the checkpoint of the stage that runs, and what stage 1 trained.

Both are written atomically with a digest beside them, carry the identity of their run, and are read
without unpickling code.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import Tensor

from mpfgvc.errors import CheckpointError, one_line
from mpfgvc.model.prompts import ClassPrompts
from mpfgvc.storage.digests import check_digest, write_with_digest
from mpfgvc.training.identity import Identity, text_tower_identity


@dataclass(kw_only=True)
class TrainingState:
    """How far a stage has come: its trained tensors and everything that the next step depends on."""

    stage: str
    step: int = 0
    identity: dict[str, str] = field(default_factory=dict)
    """What the tensors belong to (identity.py)."""
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
    write_with_digest(path, buffer.getvalue())


def load_state(path: Path, identity: Identity) -> TrainingState | None:
    """The checkpoint; None before the first. Raises CheckpointError if it is broken, or of another run."""
    if not path.exists():
        return None
    check_digest(path)
    state = _read_state(path)
    identity.refuse_other(state.identity, path)
    return state


def _read_state(path: Path) -> TrainingState:
    try:
        return TrainingState(**torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # torch.load raises whatever the bytes suggest
        raise _broken(path, error) from None


def save_stage1(path: Path, weights: Mapping[str, Tensor], identity: Identity) -> None:
    """Keep what stage 1 trained. Raises OutputError."""
    tensors = {name: tensor.contiguous() for name, tensor in weights.items()}
    write_with_digest(path, serialise(tensors, metadata=identity.to_dict()))


def load_stage1(path: Path, identity: Identity) -> dict[str, Tensor] | None:
    """What stage 1 trained, or None if it has not ended.

    Raises CheckpointError if the file is broken, or of another run.
    """
    if not path.exists():
        return None
    check_digest(path)
    try:
        with safe_open(path, framework="pt") as file:
            identity.refuse_other(file.metadata() or {}, path)
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{path} is broken ({error}); restore it, or start a new run with another --out"
        ) from None


def load_stage1_prompts(path: Path, prompts: ClassPrompts) -> Tensor:
    """The learned tokens that stage 1 gave to prompts like these, (classes, context, width).

    Raises CheckpointError if the file is broken, or belongs to another text tower.
    """
    check_digest(path)
    try:
        with safe_open(path, framework="pt") as file:
            tower = (file.metadata() or {}).get("text_tower")
            context: Tensor = file.get_tensor("network.text.context")
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read ({one_line(error, 120)}); restore it") from None
    if tower != text_tower_identity(prompts) or context.shape != prompts.context.shape:
        hint = "put back the tower that the run was made with"
        raise CheckpointError(f"{path} belongs to another text tower than the one found now; {hint}")
    return context


def _broken(path: Path, error: Exception) -> CheckpointError:
    hint = "restore it from a copy, or start a new run with another --out"
    return CheckpointError(f"{path} is broken ({one_line(error, 120)}); {hint}")
