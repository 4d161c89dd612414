"""Random weights under the true names of the paper's towers, in files of the true size, for a hub here."""

from pathlib import Path

import open_clip
import timm
import torch
from safetensors.torch import save_file
from torch import nn

IMAGE = ("timm/vit_base_patch16_224.augreg_in21k", "model.safetensors")
TEXT = ("timm/vit_base_patch16_clip_224.openai", "open_clip_model.safetensors")
"""Repository and file that timm and open_clip ask for when a config says what recipe `cub` says."""


def write_true_weights(hub: Path) -> None:
    """ViT-B/16 with the 21,843 classes of ImageNet-21k, 412 MB; a whole CLIP ViT-B/16, 599 MB."""
    with torch.device("meta"):
        image = timm.create_model("vit_base_patch16_224", num_classes=21_843)
        clip = open_clip.CLIP(**_settings())
    for (repository, file), network in ((IMAGE, image), (TEXT, clip)):
        (hub / repository).mkdir(parents=True)
        _save(network, hub / repository / file)


def _settings() -> dict[str, object]:
    return dict(open_clip.get_model_config("ViT-B-16"))


def _save(network: nn.Module, path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    tensors = {
        name: torch.randn(value.shape, generator=generator) * 0.02 for name, value in network.state_dict().items()
    }
    save_file(tensors, path)
