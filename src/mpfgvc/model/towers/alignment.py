"""Aligned towers: is an image tower the one that the text tower was trained with?

The file of a whole CLIP holds both towers and the projection of image embeddings into the space of the
texts. So names are not asked: a pair is aligned if every tensor of the image tower is the one in the text
tower's file. A fine-tuned tower, or one of another training, is not. Only the bundled pair, which was
trained together and has equal widths, is known by its name.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn
from torch import Tensor

from mpfgvc.config import ModelConfig
from mpfgvc.errors import ConfigError
from mpfgvc.model.towers.image_tower import ImageTower
from mpfgvc.model.towers.names import BUNDLED, trained_name
from mpfgvc.model.towers.text_tower import TextTower

ROUNDING = 2.0**-8
"""Relative difference of equal weights of which one was stored in bfloat16."""


class ProjectionStart(NamedTuple):
    """Where the projection V -> E starts.

    `weight` is the towers' own projection, (embed, width); without one it is random where widths differ.
    `aligned`: whether the cosines mean something before any training. `reason` says why, or why not.
    """

    aligned: bool
    reason: str
    weight: Tensor | None = None
    notes: tuple[str, ...] = ()
    """Lines for people."""


def projection_start(
    config: ModelConfig, image_tower: ImageTower, text_tower: TextTower, visual: Mapping[str, Tensor]
) -> ProjectionStart:
    """Where the projection of this pair starts: as the towers' own, if they are of one CLIP, else at random.

    `visual` is the image part of the text tower's file (`build_text_and_visual`). Raises ConfigError for
    one CLIP whose halves compute different activations.
    """
    start = _start(config, image_tower, text_tower, visual)
    notes = []
    name, built = config.image_tower.name, image_tower.architecture
    if name != (own := trained_name(name)) and own.startswith(f"{built}."):
        notes.append(f"image tower: {built}, as the weights of {name} were trained with QuickGELU")
    if start.weight is not None or image_tower.width != text_tower.embed:
        kind = "random" if start.weight is None else "the towers' own"
        notes.append(f"projection {image_tower.width} -> {text_tower.embed}: {kind}, {start.reason}")
    return start._replace(notes=tuple(notes))


def _start(
    config: ModelConfig, image_tower: ImageTower, text_tower: TextTower, visual: Mapping[str, Tensor]
) -> ProjectionStart:
    image, text = config.image_tower, config.text_tower
    if not (image.pretrained or image.weights):
        return ProjectionStart(False, "the image tower starts from random weights")
    if text.pretrained is None and text.weights is None:
        return ProjectionStart(False, "the text tower has random weights")
    local = image.weights is not None or text.weights is not None
    if not local and (image.name, text.name, text.pretrained) == ("mpfgvc-birds", "mpfgvc-birds", BUNDLED):
        return ProjectionStart(True, "the bundled towers were trained together")
    if not visual:
        return ProjectionStart(False, "the weights of the text tower hold no image tower to compare with")
    if not _holds(visual, image_tower):
        return ProjectionStart(False, "the text tower was trained with another image tower than this one")
    if image_tower.activation != text_tower.activation:
        rule = "must be names with the same activation, as their weights are one CLIP's"
        got = f"{image_tower.activation} by {image_tower.architecture} and {text_tower.activation} by {text.name}"
        hint = "both libraries write quickgelu into the names that compute it"
        raise ConfigError(f"model.image_tower.name and model.text_tower.name {rule}, got {got}; {hint}")
    weight = visual["visual.proj"].float().T.contiguous()
    return ProjectionStart(True, f"both are of one CLIP and compute {image_tower.activation}", weight)


def _holds(visual: Mapping[str, Tensor], tower: ImageTower) -> bool:
    """Whether the image part of a CLIP is this tower, tensor by tensor, and has a projection."""
    transformer = tower.transformer
    if type(transformer) is not VisionTransformer or "visual.class_embedding" not in visual:
        return False
    if "visual.proj" not in visual or len(visual["visual.proj"]) != tower.width:
        return False
    try:
        own = checkpoint_filter_fn(dict(visual), transformer)
    except (RuntimeError, ValueError):  # positions of another kind of grid
        return False
    return all(_same(own.get(name), value) for name, value in transformer.state_dict().items())


def _same(one: Tensor | None, other: Tensor) -> bool:
    if one is None or one.shape != other.shape:
        return False
    return torch.allclose(one.float(), other.float(), rtol=ROUNDING, atol=1e-6)
