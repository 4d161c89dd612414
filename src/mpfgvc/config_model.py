"""The settings of the network: its towers, its prompts, its selection (config.py)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from mpfgvc.config_rules import check, check_range
from mpfgvc.terms import Source

BUNDLED_DESCRIPTIONS = "bundled"
"""The value of `model.descriptions` that stands for the sentences of the synthetic birds."""
Selection = Literal["attention", "rollout", "random"]


@dataclass(frozen=True, kw_only=True)
class ImageTowerConfig:
    """The image tower: a timm vision transformer with a class token."""

    name: str = "vit_base_patch16_224.augreg_in21k"
    """Name of a timm model, with or without its pretrained tag; or mpfgvc-birds, which is bundled. Weights
    of the hub that were trained with the quick GELU are computed with it under either of timm's names."""
    pretrained: bool = True
    """Load timm's weights for this name from the hub, or the bundled ones."""
    weights: str | None = None
    """Local .safetensors file with timm's parameter names, used instead of the hub; the name decides the
    activation, so OpenAI's own weights need vit_base_patch16_clip_quickgelu_224."""
    image_size: int | list[int] | None = None
    """Input size in pixels: one number, or [height, width]; null = the tower's own, 224 by default."""
    drop_path: float = 0.0
    """Stochastic depth rate of the last block; earlier blocks have less, linearly. 0..1."""

    def __post_init__(self) -> None:
        for size in self.image_size if isinstance(self.image_size, list) else [self.image_size]:
            check(size is None or size > 0, "model.image_tower.image_size", "must be positive", size)
        if isinstance(self.image_size, list):
            rule = "must be one number or [height, width]"
            check(len(self.image_size) == 2, "model.image_tower.image_size", rule, self.image_size)
        check_range("model.image_tower.drop_path", self.drop_path, 0, 0.999)


@dataclass(frozen=True, kw_only=True)
class TextTowerConfig:
    """The text tower: the causal transformer of an open_clip model. It is never trained."""

    name: str = "ViT-B-16"
    """Name of an open_clip model; or mpfgvc-birds, which is bundled; or mpfgvc-small: 4 layers, width 192,
    for random initialisation."""
    pretrained: str | None = "openai"
    """open_clip's tag of the pretrained weights; bundled, for mpfgvc-birds; null = random from the seed."""
    weights: str | None = None
    """Local .safetensors file with open_clip's parameter names, used instead of the hub; the name decides
    the activation, so OpenAI's own weights need ViT-B-16-quickgelu."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The network of the paper: its two towers and the sizes of its prompts."""

    image_tower: ImageTowerConfig = field(default_factory=ImageTowerConfig)
    text_tower: TextTowerConfig = field(default_factory=TextTowerConfig)
    supercategory: str | None = None
    """Word or words that end every class prompt, such as bird; null = the dataset's own, or object."""
    kept_tokens: int | None = 49
    """Patches of each image that reach the last block (K of the paper); null = all. 49 is a quarter of the
    196 patches of the default tower: change it together with the tower or its image_size."""
    context_tokens: int = 4
    """Learnable tokens in each class prompt (J of the paper)."""
    context_init: str | None = None
    """Words to start the learnable tokens from; null = normal noise of 0.02 (the paper)."""
    prompt_ending: Literal["supercategory", "class", "class_supercategory"] = "supercategory"
    """What ends a class prompt: the supercategory (the paper), the class's own name, or both."""
    descriptions: str | None = None
    """CSV or YAML file with sentences about the classes, which the text tower reads (docs/descriptions.md);
    bundled = those of the synthetic birds; null = none (the paper)."""
    prompt_weight: float = 0.05
    """Weight of a class's prompt beside its descriptions, whose weight is 1; no effect without them.
    Higher for vague sentences or many photographs."""
    selection: Selection = "attention"
    """What chooses the kept patches. attention: the class token's, in the second-to-last block (the paper);
    rollout: attention rollout up to that block; random: chance. The last two are there to compare with."""
    prediction: Source = "fusion"
    """The source of logits that the model answers with (the paper: fusion)."""
    projection: Literal["auto", "pretrained", "random"] = "auto"
    """Where the projection of image embeddings into the space of the texts starts. auto: as the towers' own,
    if the weights of the text tower are a whole CLIP whose image tower is this one, else at random;
    pretrained: as their own, from a local file whose head.weight is one if need be, or refused."""
    prompt_chunk: int = 256
    """Class prompts that the text tower reads at a time. With more classes than this, activations are
    computed twice, so that memory does not grow with the classes."""
    temperature: float = 0.07
    """Divides the cosine between image and class text before the softmax (tau of the paper)."""
    fusion_residual: bool = False
    """Add the attended vector to the output of the fusion transform (not in the paper)."""
    fusion_norm: bool = False
    """Normalise the attended vector before the fusion transform (not in the paper)."""

    def __post_init__(self) -> None:
        check_range("model.kept_tokens", self.kept_tokens, 1, None)
        check_range("model.context_tokens", self.context_tokens, 1, 64)
        check_range("model.prompt_chunk", self.prompt_chunk, 1, None)
        above = 0 < self.prompt_weight < math.inf
        check(above, "model.prompt_weight", "must be above 0", self.prompt_weight)
        check(0 < self.temperature < math.inf, "model.temperature", "must be above 0", self.temperature)
        blank = self.supercategory is not None and not self.supercategory.strip()
        check(not blank, "model.supercategory", "must hold a word, such as bird", self.supercategory)
