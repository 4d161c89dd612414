"""The run folder: all that repeats a run or continues it.

    config.yaml          every setting, resolved
    environment.json     versions, commit, device, command
    metrics.csv          a row for each epoch of each stage; tensorboard/ holds the same and more
    checkpoint.pt        the last state of the training, to resume from
    stage1.safetensors   what stage 1 trained, written when it ends; stage 2 starts from it
    model/               the trained model (saved_model.py)
    evaluation.json      the test result, written last: a run that has it is finished

All are written atomically. Tensors are read without unpickling code.
"""

import hashlib
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as serialise
from torch import Tensor

from mpfgvc.errors import CheckpointError
from mpfgvc.storage import make_folder, write_bytes, write_text


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


class RunFolder:
    """Reads and writes the files of one run."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.model = self.path / "model"
        self.config = self.path / "config.yaml"
        self.metrics = self.path / "metrics.csv"
        self.tensorboard = self.path / "tensorboard"
        self.evaluation = self.path / "evaluation.json"
        self.checkpoint = self.path / "checkpoint.pt"
        self.stage1 = self.path / "stage1.safetensors"

    def refuse_existing(self) -> None:
        """Raise CheckpointError if the folder holds a run already."""
        if self.config.exists():
            hint = f"continue it with --resume {self.path}, or choose another --out"
            raise CheckpointError(f"{self.path} already holds a run; {hint}")

    def create(self, config: str, environment: Mapping[str, Any]) -> None:
        """Start a new run. Raises OutputError if it cannot be written."""
        make_folder(self.path)
        write_text(self.path / "environment.json", json.dumps(environment, indent=2) + "\n")
        write_text(self.config, config)

    def save_state(self, state: TrainingState) -> None:
        """Write the checkpoint. Raises OutputError; the one before it stays."""
        buffer = io.BytesIO()
        torch.save(vars(state), buffer)
        write_bytes(self.checkpoint, buffer.getvalue())

    def load_state(self) -> TrainingState | None:
        """The checkpoint; None before the first. Raises CheckpointError if it is broken."""
        if not self.checkpoint.exists():
            return None
        try:
            return TrainingState(**torch.load(self.checkpoint, map_location="cpu", weights_only=True))
        except Exception as error:  # torch.load raises whatever the bytes suggest
            reason = " ".join(str(error).split())[:120]
            hint = "restore it, or delete it to start the run anew"
            raise CheckpointError(f"{self.checkpoint} is broken ({reason}); {hint}") from None

    def save_stage1(self, weights: Mapping[str, Tensor]) -> None:
        """Keep what stage 1 trained. Raises OutputError."""
        write_bytes(self.stage1, serialise({name: tensor.contiguous() for name, tensor in weights.items()}))

    def load_stage1(self) -> dict[str, Tensor] | None:
        """What stage 1 trained, or None if it has not ended. Raises CheckpointError if broken."""
        if not self.stage1.exists():
            return None
        try:
            return load_file(self.stage1)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{self.stage1} is broken ({error}); restore it, or start anew") from None

    def save_evaluation(self, evaluation: Mapping[str, Any]) -> None:
        """Write the test result, the last file of a run. Raises OutputError."""
        write_text(self.evaluation, json.dumps(evaluation, indent=2) + "\n")


def fingerprint(tensors: Iterable[Tensor], texts: Iterable[str] = ()) -> str:
    """A hash over the bytes of some tensors and texts, in their order."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode() + b"\0")
    for tensor in tensors:
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
