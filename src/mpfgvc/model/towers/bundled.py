"""The project's own small towers: their shapes, and the weights that come with the package.

`mpfgvc-birds` is a small CLIP, pretrained by contrast on synthetic birds
(pretraining/, with a card): an image tower for 96-pixel pictures and a causal
text tower with CLIP's tokenizer. `mpfgvc-small` is a text tower without weights.
"""

from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mpfgvc.errors import CheckpointError

BUNDLED = "bundled"
"""The `pretrained` tag of the text tower whose weights come with the package."""

IMAGE_TOWERS: dict[str, dict[str, Any]] = {
    "mpfgvc-birds": {
        "model_name": "vit_tiny_patch16_224",
        "img_size": 96,
        "patch_size": 12,
        "embed_dim": 128,
        "depth": 6,
        "num_heads": 4,
    },
}
"""Image towers that timm does not name, as arguments of `timm.create_model`."""

TEXT_TOWERS: dict[str, dict[str, Any]] = {
    "mpfgvc-small": {"embed_dim": 192, "text_cfg": {"width": 192, "heads": 3, "layers": 4}},
    "mpfgvc-birds": {"embed_dim": 128, "text_cfg": {"width": 128, "heads": 4, "layers": 3}},
}
"""Text towers that open_clip does not have, in its own format."""

_ROWS, _IDS = "token_embedding.weight", "token_embedding.ids"


def bundled_image_weights() -> Path:
    """The file of the bundled image tower, with timm's parameter names."""
    return _weights("birds_image.safetensors")


def bundled_text_weights(random: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the bundled text tower.

    The file holds only the embeddings of the words that occur in captions of birds;
    all the other words of CLIP's 49,408 were never trained and stay as they are in `random`.
    Raises CheckpointError if the package was installed without it.
    """
    path = _weights("birds_text.safetensors")
    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        reason = f"{path} cannot be read ({error}); install mpfgvc again"
        raise CheckpointError(f"the weights that come with the package: {reason}") from None
    return state | {_ROWS: random[_ROWS].index_copy(0, state.pop(_IDS), state[_ROWS])}


def without_untrained_words(state: dict[str, Tensor], ids: list[int]) -> dict[str, Tensor]:
    """What the file of the text tower holds: all tensors, but only the embeddings of `ids`."""
    kept = torch.tensor(sorted(ids))
    return state | {_ROWS: state[_ROWS][kept].clone(), _IDS: kept}


def _weights(name: str) -> Path:
    return Path(str(files("mpfgvc"))) / "weights" / name
