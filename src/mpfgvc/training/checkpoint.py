"""What a training reloads: the checkpoint of the stage that runs, and what stage 1 trained.

Both are written atomically with their digests in `digests.json`, are read without unpickling code, and
carry the identity of their run: its classes, photographs, pretrained towers and descriptions. With other
classes, for example after a class folder was renamed, the old weights would answer under new names.
"""

import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import Tensor, nn

from mpfgvc.data.samples import PhotoSet
from mpfgvc.errors import CheckpointError, one_line
from mpfgvc.files import check_digest, write_with_digest
from mpfgvc.model.network import MPFGVC
from mpfgvc.model.prompts import ClassPrompts


@dataclass(frozen=True, kw_only=True)
class Identity:
    """A fingerprint of each part; two runs with equal ones can exchange their tensors."""

    classes: str
    photographs: str
    image_tower: str
    text_tower: str
    descriptions: str = ""
    """Empty for a run without them."""

    @classmethod
    def of(cls, network: MPFGVC, photos: PhotoSet, sentences: Sequence[Sequence[str]] = ()) -> Self:
        """The identity of a run, from its network as it was built, before any training."""
        return cls(
            classes=_of_texts(photos.classes),
            photographs=photos.samples.fingerprint(),
            image_tower=_of_tensors(network.image_encoder.tower.state_dict().values()),
            text_tower=_of_text_tower(network.text),
            descriptions=_of_texts(map("\n".join, sentences)) if sentences else "",
        )

    def refuse_other(self, stored: Mapping[str, str], file: Path) -> None:
        """Raise CheckpointError if the identity that is stored in `file` is not this one."""
        other = [name.replace("_", " ") for name, own in asdict(self).items() if stored.get(name) != own]
        if other:
            rule = f"belongs to a run with other {', '.join(other)} than those found now"
            hint = "put back those of the run, or start a new run with another --out"
            raise CheckpointError(f"{file} {rule}; {hint}")


@dataclass(kw_only=True)
class TrainingState:
    """How far a stage has come: its trained tensors and everything that the next step depends on."""

    stage: str
    step: int = 0
    identity: dict[str, str] = field(default_factory=dict)
    """What the tensors belong to."""
    weights: dict[str, Tensor] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)
    best: dict[str, Tensor] = field(default_factory=dict)
    best_accuracy: float = -1.0
    stale_epochs: int = 0
    sums: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    """Loss, right answers and photographs of the current epoch so far, over all processes."""
    rows: list[dict[str, Any]] = field(default_factory=list)
    """The rows of `metrics.csv` up to here, those of earlier stages included."""


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
    try:
        state = TrainingState(**torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # torch.load raises whatever the bytes suggest
        raise _broken(path, error) from None
    identity.refuse_other(state.identity, path)
    return state


def save_stage1(path: Path, weights: Mapping[str, Tensor], identity: Identity) -> None:
    """Keep what stage 1 trained. Raises OutputError."""
    tensors = {name: tensor.contiguous() for name, tensor in weights.items()}
    write_with_digest(path, serialise(tensors, metadata=asdict(identity)))


def load_stage1(path: Path, identity: Identity) -> dict[str, Tensor] | None:
    """What stage 1 trained, or None if it has not ended.

    Raises CheckpointError if the file is broken, or of another run.
    """
    if not path.exists():
        return None
    tensors, stored = _read_stage1(path)
    identity.refuse_other(stored, path)
    return tensors


def load_stage1_prompts(path: Path, prompts: ClassPrompts) -> Tensor:
    """The learned tokens that stage 1 gave to prompts like these, (classes, context, width).

    Raises CheckpointError if the file is broken, or belongs to another text tower.
    """
    tensors, stored = _read_stage1(path)
    context = tensors.get("network.text.context")
    is_same = stored.get("text_tower") == _of_text_tower(prompts)
    if context is None or not is_same or context.shape != prompts.context.shape:
        hint = "put back the tower that the run was made with"
        raise CheckpointError(f"{path} belongs to another text tower than the one found now; {hint}")
    return context


def _read_stage1(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the identity. Raises CheckpointError if the file is broken."""
    check_digest(path)
    try:
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise _broken(path, error) from None


def _broken(path: Path, error: Exception) -> CheckpointError:
    hint = "restore it from a copy, or start a new run with another --out"
    return CheckpointError(f"{path} is broken ({one_line(error, 120)}); {hint}")


def _of_text_tower(text: nn.Module) -> str:
    tensors = text.state_dict()
    return _of_tensors(tensors[name] for name in tensors if name.startswith("tower."))


def _of_texts(texts: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode(errors="surrogateescape") + b"\0")
    return digest.hexdigest()


def _of_tensors(tensors: Iterable[Tensor]) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()
