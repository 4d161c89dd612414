"""What a run's tensors belong to: classes, photographs, pretrained towers and descriptions.

Every file of tensors that a run reloads carries the identity it was made with. With other classes, for
example after a class folder was renamed, the old weights would answer under new names.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from mpfgvc.data.photo_list import PhotoList
from mpfgvc.errors import CheckpointError
from mpfgvc.model.network import MPFGVC


@dataclass(frozen=True, kw_only=True)
class Identity:
    """A fingerprint of each part; two runs with equal ones can exchange their tensors."""

    classes: str
    photographs: str
    image_tower: str
    text_tower: str
    descriptions: str = ""
    """Empty for a run without them, and for one of a version that did not know them."""

    @classmethod
    def of(
        cls,
        network: MPFGVC,
        photo_list: PhotoList,
        sentences: Sequence[Sequence[str]] = (),
    ) -> Self:
        """The identity of a run, from its network as it was built, before any training."""
        return cls(
            classes=_of_texts(photo_list.classes),
            photographs=photo_list.fingerprint(),
            image_tower=_of_tensors(network.image_encoder.tower.state_dict().values()),
            text_tower=text_tower_identity(network.text),
            descriptions=_of_texts(map("\n".join, sentences)) if sentences else "",
        )

    def to_dict(self) -> dict[str, str]:
        """A dictionary of texts, which checkpoints and safetensors' metadata can hold."""
        return asdict(self)

    def refuse_other(self, stored: object, file: Path) -> None:
        """Raise CheckpointError if the identity that is stored in `file` is not this one."""
        if not isinstance(stored, Mapping) or not stored:
            reason = "does not say which run it belongs to, so an older version wrote it"
            raise CheckpointError(f"{file} {reason}; start a new run with another --out")
        other = [name.replace("_", " ") for name, own in asdict(self).items() if stored.get(name, "") != own]
        if other:
            rule = f"belongs to a run with other {', '.join(other)} than those found now"
            hint = "put back those of the run, or start a new run with another --out"
            raise CheckpointError(f"{file} {rule}; {hint}")


def text_tower_identity(text: nn.Module) -> str:
    """The fingerprint of the text tower in class prompts."""
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
