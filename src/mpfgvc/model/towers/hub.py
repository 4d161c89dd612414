"""Weights on the Hugging Face hub: which files the towers of a model need, and how they come to this machine.

A file in the cache is used as it is. Else the hub is asked once, without retries, so a machine without a
network learns within seconds what is missing, how large it is, and what else to do. Only .safetensors are
read: other files of weights may be pickles, which can run code.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import open_clip
import timm
import torch
from timm.models import get_pretrained_cfg

from mpfgvc.config import ImageTowerConfig, ModelConfig, TextTowerConfig
from mpfgvc.errors import CheckpointError, one_line
from mpfgvc.model.towers.names import IMAGE_TOWERS, TEXT_TOWERS

HUB_PREFIX = "hf-hub:"
WEIGHTS, SETTINGS = "model.safetensors", "config.json"
SECONDS = 10
"""For the hub to say what a repository holds."""
_TEXT_WEIGHTS = "open_clip_model.safetensors"


class HubFile(NamedTuple):
    """A file of the repository `user/name`; `network` builds what its weights are of, to tell their size."""

    repository: str
    name: str
    network: Callable[[], torch.nn.Module] | None = None


def hub_files(config: ModelConfig) -> list[HubFile]:
    """What a model needs from the hub, image tower first; local, bundled and random weights need nothing."""
    return [*image_files(config.image_tower), *text_files(config.text_tower)]


def hub_repositories(config: ModelConfig) -> tuple[str, ...]:
    """The repositories `user/name`, image tower first."""
    return tuple(dict.fromkeys(file.repository for file in hub_files(config)))


def image_files(config: ImageTowerConfig) -> list[HubFile]:
    """What an image tower needs: for a repository given by its own name its settings, and then the weights."""
    wants_weights = config.pretrained and config.weights is None
    if config.name.startswith(HUB_PREFIX):
        names = [SETTINGS, WEIGHTS] if wants_weights else [SETTINGS]
        return [HubFile(config.name.removeprefix(HUB_PREFIX), name) for name in names]
    if not wants_weights or config.name in IMAGE_TOWERS:
        return []
    try:
        known = get_pretrained_cfg(config.name, allow_unregistered=True)
    except RuntimeError:  # no such tag; refused when the tower is built
        return []
    if known is None or not known.hf_hub_id:
        return []
    name = _safe(known.hf_hub_filename or WEIGHTS)
    return [HubFile(str(known.hf_hub_id), name, partial(timm.create_model, config.name))]


def text_files(config: TextTowerConfig) -> list[HubFile]:
    """What a text tower needs: the file of the whole CLIP that it is a part of."""
    if config.weights is not None or config.pretrained is None or config.name in TEXT_TOWERS:
        return []
    known = open_clip.get_pretrained_cfg(config.name, config.pretrained).get("hf_hub") or ""
    repository, _, name = known.rpartition("/")
    return [HubFile(repository, _safe(name or _TEXT_WEIGHTS), partial(_clip, config.name))] if repository else []


def fetch(files: Sequence[HubFile]) -> list[Path]:
    """The files on this machine. Raises CheckpointError, which names all that are missing, if one cannot be had."""
    from huggingface_hub import HfApi, hf_hub_download

    missing = [file for file in files if _cached(file) is None]
    for file in missing:
        try:
            about = HfApi().model_info(file.repository, timeout=SECONDS)
            if file.name not in [sibling.rfilename for sibling in about.siblings or ()]:
                rule = f"has no {file.name}; weights in other files are not read, as they may be pickles"
                raise CheckpointError(f"the repository {file.repository} {rule}")
            hf_hub_download(file.repository, file.name)
        except CheckpointError:
            raise
        except Exception as error:  # the hub client raises a dozen unrelated kinds
            wanted = " and ".join(f"{file.repository}/{file.name}{_size(file)}" for file in missing)
            ways = (
                "fetch them where there is a network (mpfgvc download), take smaller towers (--config vit_tiny, or "
                "--base vit_tiny), or name local files (model.image_tower.weights, model.text_tower.weights)"
            )
            raise CheckpointError(f"cannot fetch {wanted} from the hub: {one_line(error)}; {ways}") from None
    return [path for file in files if (path := _cached(file)) is not None]


def _cached(file: HubFile) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(file.repository, file.name)
    return Path(found) if isinstance(found, str) else None


def _safe(name: str) -> str:
    """The name under which a repository has the same weights as .safetensors."""
    return str(Path(name).with_suffix(".safetensors"))


def _size(file: HubFile) -> str:
    """About how large a file of weights is, in float32."""
    if file.network is None:
        return ""
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in file.network().parameters())
    return f" ({4 * count / 1e6:.0f} MB)"


def _clip(name: str) -> torch.nn.Module:
    settings = open_clip.get_model_config(name)
    clip: torch.nn.Module = open_clip.CLIP(settings["embed_dim"], settings["vision_cfg"], settings["text_cfg"])
    return clip
