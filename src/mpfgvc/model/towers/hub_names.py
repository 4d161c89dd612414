"""The repositories of the Hugging Face hub that the weights of towers come from."""

from collections.abc import Iterator

import open_clip
from timm.models import get_pretrained_cfg

from mpfgvc.config import ImageTowerConfig, ModelConfig, TextTowerConfig
from mpfgvc.model.towers.bundled import IMAGE_TOWERS, TEXT_TOWERS

_HUB_PREFIX = "hf-hub:"


def hub_repositories(config: ModelConfig) -> tuple[str, ...]:
    """The repositories `user/name`, image tower first; local, bundled and random weights have none."""
    return tuple(dict.fromkeys([*_of_image_tower(config.image_tower), *_of_text_tower(config.text_tower)]))


def _of_image_tower(config: ImageTowerConfig) -> Iterator[str]:
    if config.weights is not None or not config.pretrained or config.name in IMAGE_TOWERS:
        return
    if config.name.startswith(_HUB_PREFIX):
        yield config.name.removeprefix(_HUB_PREFIX)
    elif (known := get_pretrained_cfg(config.name, allow_unregistered=True)) and known.hf_hub_id:
        yield str(known.hf_hub_id)


def _of_text_tower(config: TextTowerConfig) -> Iterator[str]:
    if config.weights is not None or config.pretrained is None or config.name in TEXT_TOWERS:
        return
    if repository := open_clip.get_pretrained_cfg(config.name, config.pretrained).get("hf_hub"):
        yield "/".join(repository.split("/")[:2])
