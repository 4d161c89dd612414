"""Which weights a tower's name stands for: those of the package, those of the hub, and their activation.

`mpfgvc-birds` is a small CLIP, pretrained by contrast on synthetic birds (pretraining/, with a card): an
image tower for 96-pixel pictures and a causal text tower with CLIP's tokenizer. `mpfgvc-small` is a text
tower without weights.

Some weights were trained with GELU, others with the quick GELU of OpenAI's CLIP. Neither library refuses
the wrong one, and its features are only slightly wrong. timm gives the same weights under two names and
says so in a note; open_clip warns.
"""

from importlib.resources import files
from pathlib import Path
from typing import Any

import open_clip
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.models import get_pretrained_cfg
from torch import Tensor

from mpfgvc.config import TextTowerConfig
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
    }
}
"""Image towers that timm does not name, as arguments of `timm.create_model`."""

TEXT_TOWERS: dict[str, dict[str, Any]] = {
    "mpfgvc-small": {"embed_dim": 192, "text_cfg": {"width": 192, "heads": 3, "layers": 4}},
    "mpfgvc-birds": {"embed_dim": 128, "text_cfg": {"width": 128, "heads": 4, "layers": 3}},
}
"""Text towers that open_clip does not have, in its own format."""

_NOTE = "natively QuickGELU"
"""How timm's note about weights of a CLIP with quick GELU begins."""


def bundled_image_weights() -> Path:
    """The file of the bundled image tower, with timm's parameter names."""
    return _weights("birds_image.safetensors")


def bundled_text_weights(random: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the bundled text tower.

    The file holds only the embeddings of the words that occur in captions of birds;
    all the other words of CLIP's 49,408 were never trained and stay as they are in `random`.
    Raises CheckpointError if the package was installed without it.
    """
    path, rows = _weights("birds_text.safetensors"), "token_embedding.weight"
    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        reason = f"{path} cannot be read ({error}); install mpfgvc again"
        raise CheckpointError(f"the weights that come with the package: {reason}") from None
    return state | {rows: random[rows].index_copy(0, state.pop("token_embedding.ids"), state[rows])}


def trained_name(name: str) -> str:
    """timm's name of the same weights with the activation that they were trained with.

    vit_base_patch16_clip_224.openai becomes vit_base_patch16_clip_quickgelu_224.openai; any other name
    stays as it is.
    """
    try:
        known = get_pretrained_cfg(name.removeprefix("hf-hub:timm/"))
    except RuntimeError:  # no such tag; refused when the tower is built
        return name
    if known is None or not any(_NOTE in note for note in known.notes or ()):
        return name
    if "_quickgelu_" in known.architecture:
        return name
    return f"{known.architecture.replace('_clip_', '_clip_quickgelu_')}.{known.tag}"


def quick_gelu(config: TextTowerConfig, settings: dict[str, Any]) -> bool:
    """Whether a text tower computes it. A tag knows better than a name; for a file the name decides.

    `settings` are open_clip's of this name.
    """
    if config.pretrained is None or config.weights is not None or config.name in TEXT_TOWERS:
        return bool(settings.get("quick_gelu", False))
    tag = open_clip.get_pretrained_cfg(config.name, config.pretrained)
    return bool(tag.get("quick_gelu", settings.get("quick_gelu", False)))


def _weights(name: str) -> Path:
    return Path(str(files("mpfgvc"))) / "weights" / name
