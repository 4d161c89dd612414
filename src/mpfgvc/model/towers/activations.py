"""Which activation a tower's weights were trained with: GELU, or the quick GELU of OpenAI's CLIP.

Neither library refuses the wrong one, and its features are only slightly wrong. timm gives the same
weights under two names and says so in a note; open_clip warns.
"""

from typing import Any

import open_clip
from timm.models import get_pretrained_cfg

from mpfgvc.config import TextTowerConfig
from mpfgvc.model.towers.bundled import TEXT_TOWERS

_NOTE = "natively QuickGELU"
"""How timm's note about such weights begins."""


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
