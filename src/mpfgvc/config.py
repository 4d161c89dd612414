"""Every setting, with its default, its unit and its rule.

Frozen keyword-only dataclasses; the docstring below a field is its help on the
command line. A value is checked once, here, when the dataclass is made; a rule
that needs the data or the tower (how many patches there are) is checked where
these become known. `config_io.load_config` makes a `Config` from YAML and overrides.

The defaults here are the truth. The recipe `folder`, for your own class folders,
repeats every one of them, and a test compares the two.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from mpfgvc.errors import ConfigError
from mpfgvc.terms import Resize as Resize
from mpfgvc.terms import Source as Source

MOST_PICTURES = 100_000
"""Synthetic pictures that a class may have in each split."""
NESTED_FOLDERS = "folders"
"""The value of `data.taxonomy` that stands for class folders inside the folders of their groups."""
BUNDLED_DESCRIPTIONS = "bundled"
"""The value of `model.descriptions` that stands for the sentences of the synthetic birds."""
Device = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["fp32", "bf16"]
"""bf16: products in bfloat16 where autocast takes it; weights stay in float32 in either case."""
Selection = Literal["attention", "rollout", "random"]
PrecisionSetting = Literal["auto", "fp32", "bf16"]
OnError = Literal["raise", "skip"]
DatasetName = Literal["cub", "dogs", "nabirds", "food101", "flowers102", "folder", "manifest", "synthetic"]


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
            _check(size is None or size > 0, "model.image_tower.image_size", "must be positive", size)
        if isinstance(self.image_size, list):
            rule = "must be one number or [height, width]"
            _check(len(self.image_size) == 2, "model.image_tower.image_size", rule, self.image_size)
        _check_range("model.image_tower.drop_path", self.drop_path, 0, 0.999)


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
        _check_range("model.kept_tokens", self.kept_tokens, 1, None)
        _check_range("model.context_tokens", self.context_tokens, 1, 64)
        _check_range("model.prompt_chunk", self.prompt_chunk, 1, None)
        above = 0 < self.prompt_weight < math.inf
        _check(above, "model.prompt_weight", "must be above 0", self.prompt_weight)
        _check(0 < self.temperature < math.inf, "model.temperature", "must be above 0", self.temperature)
        blank = self.supercategory is not None and not self.supercategory.strip()
        _check(not blank, "model.supercategory", "must hold a word, such as bird", self.supercategory)


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Random changes to a training photograph."""

    crop: Literal["resized", "random"] = "resized"
    """resized: a random part of random size and shape; random: scale, then cut out a random place."""
    min_scale: float = 0.4
    """Smallest part of the photograph that a resized crop may show, as a share of its area. 0..1."""
    flip: float = 0.5
    """Probability of a mirror image. 0..1."""
    color: float = 0.0
    """Strength of random brightness, contrast and saturation. 0..1."""
    erase: float = 0.0
    """Probability of erasing a random rectangle. 0..1."""

    def __post_init__(self) -> None:
        for name in ("min_scale", "flip", "color", "erase"):
            _check_range(f"data.augment.{name}", getattr(self, name), 0, 1)
        _check(self.min_scale > 0, "data.augment.min_scale", "must be above 0", self.min_scale)


@dataclass(frozen=True, kw_only=True)
class BirdsConfig:
    """The synthetic birds: a benchmark that is drawn, not downloaded."""

    species: int = 30
    """Classes, the first of 200, in families of five. 2..200"""
    train: int = 20
    """Training pictures of each class."""
    test: int = 20
    """Test pictures of each class; they do not depend on the number for training."""
    image_size: int = 96
    """Width and height of a picture in pixels."""
    seed: int = 0
    """Seed of the pictures; the classes do not depend on it."""

    def __post_init__(self) -> None:
        _check_range("data.birds.species", self.species, 2, 200)
        _check_range("data.birds.train", self.train, 1, MOST_PICTURES)
        _check_range("data.birds.test", self.test, 0, MOST_PICTURES)
        _check_range("data.birds.image_size", self.image_size, 32, 2048)
        _check_range("data.birds.seed", self.seed, 0, 2**31 - 1)


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The photographs and how they become tensors."""

    dataset: DatasetName = "folder"
    """Layout on disk. cub, dogs, nabirds, food101, flowers102: as CUB-200-2011, Stanford Dogs, NABirds,
    Food-101 and Oxford Flowers-102 are published; folder: one folder per class, with or without
    train/val/test above them; manifest: a table; synthetic: birds that are drawn when needed, no files."""
    root: str | None = None
    """Folder of the dataset; for a manifest, the folder that its paths start from."""
    manifest: str | None = None
    """CSV or Parquet file with the columns path, label and, optionally, split (train, val, test)."""
    taxonomy: str | None = None
    """The tree above the classes, for answers such as a genus: a CSV file, NABirds' hierarchy.txt, or folders
    if the class folders of data.root are nested in it (docs/certainty.md); null = none."""
    validation: float = 0.1
    """Share of the training photographs of each class held out for validation, if the dataset has no
    validation split of its own; 0 = none. 0..0.9"""
    test: float = 0.2
    """Share of all photographs held out for the final test, if the dataset has no splits. 0..0.9"""
    resize: Resize = "short"
    """short: scale the shorter side, keep the shape; squash: scale both sides to a fixed size."""
    crop_ratio: float | None = None
    """Share of the scaled side that the centre crop keeps; null = the tower's own. 0.1..1"""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    birds: BirdsConfig = field(default_factory=BirdsConfig)
    workers: int | None = None
    """Loader processes for each training process. null = one for each core, at most 8, or a quarter of that
    while a model is evaluated on the CPU."""
    on_error: OnError = "raise"
    """What happens at a broken photograph. raise: the run ends and names the file; skip: it is left out
    and counted."""

    def __post_init__(self) -> None:
        _check_range("data.validation", self.validation, 0, 0.9)
        _check_range("data.test", self.test, 0, 0.9)
        _check_range("data.crop_ratio", self.crop_ratio, 0.1, 1)
        _check_range("data.workers", self.workers, 0, None)
        fits = self.taxonomy != NESTED_FOLDERS or self.dataset == "folder"
        _check(fits, "data.taxonomy", f"must be a file with data.dataset={self.dataset}", self.taxonomy)


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """Settings that both stages of the training have."""

    name: ClassVar[str] = "stage"
    """What the stage is called in settings and messages."""
    epochs: int = 20
    """Passes over the training photographs."""
    batch_size: int = 32
    """Photographs in one optimiser step, summed over processes and micro-batches."""
    lr: float = 1e-3
    """Peak learning rate of the new parts: prompts, projection, classifiers, fusion."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """adamw, or sgd with momentum 0.9."""
    weight_decay: float = 0.05
    """Weight decay of matrices; biases, norms, tokens and position embeddings have none."""
    warmup_epochs: float = 1.0
    """Epochs of linear warm-up, before a cosine to zero."""
    clip: float | None = 1.0
    """Largest norm of the gradient; null = no clipping."""
    ema: float | None = None
    """Decay, per step, of an exponential moving average of the weights, used for evaluation; null = none."""
    patience: int | None = None
    """Stop after this many epochs without a better validation accuracy, and take the best weights;
    null = never. Without validation photographs it has no effect."""
    label_smoothing: float = 0.0
    """Share of the target spread over all classes. 0..1."""
    class_weights: Literal["none", "balanced"] = "none"
    """balanced: weigh each class by the inverse of its number of training photographs."""

    def __post_init__(self) -> None:
        stage = self.name
        _check_range(f"{stage}.epochs", self.epochs, 0, None)
        _check_range(f"{stage}.batch_size", self.batch_size, 1, None)
        _check_range(f"{stage}.lr", self.lr, 0, None)
        _check_range(f"{stage}.weight_decay", self.weight_decay, 0, None)
        _check_range(f"{stage}.warmup_epochs", self.warmup_epochs, 0, None)
        _check(
            self.clip is None or 0 < self.clip < math.inf,
            f"{stage}.clip",
            "must be above 0 or null",
            self.clip,
        )
        _check_range(f"{stage}.ema", self.ema, 0, 0.999999)
        _check_range(f"{stage}.patience", self.patience, 1, None)
        _check_range(f"{stage}.label_smoothing", self.label_smoothing, 0, 0.999)


@dataclass(frozen=True, kw_only=True)
class Stage1Config(StageConfig):
    """Stage 1 trains the image tower, the learnable tokens, a classifier and a projection."""

    name: ClassVar[str] = "stage1"
    start: Literal["features", "noise"] = "features"
    """Where classifier, projection and prompts start. features: fitted, in seconds, on the embeddings that
    the pretrained tower gives of the training photographs; noise: random, which is better if that tower
    knows little of such photographs, and wants more epochs at a higher tower_lr."""
    epochs: int = 10
    """Passes over the training photographs; 0 = the tower stays as it is."""
    patience: int | None = 5
    """Stop after this many epochs without a better validation accuracy, and take the best weights;
    null = never. Without validation photographs it has no effect."""
    tower_lr: float = 1e-4
    """Peak learning rate of the pretrained image tower; 0 = the tower is not trained at all."""
    layer_decay: float = 0.75
    """Learning rate of a tower block relative to the block above it; 1 = the same for all. 0.01..1"""
    vision_weight: float = 1.0
    """Weight of the loss of the linear classifier, L_v; 0 = without it."""
    text_weight: float = 1.0
    """Weight of the loss over the class texts, L_i2t; 0 = without them."""
    pretrained_share: float | Literal["validation"] = 0.0
    """Share of the pretrained image tower in its average with the trained one (WiSE-FT). 0..1; validation:
    the best of 0, 0.1 .. 0.9 on the validation photographs, at the cost of at most 10 evaluations."""
    accumulate: int = 1
    """Micro-batches in one optimiser step; more of them need less memory."""
    sampled_classes: int | None = None
    """Classes whose prompts a micro-batch encodes: its own and a random sample of the others; null = all.
    For thousands of classes; the loss over texts is then slightly too low (class_sampling.py)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_range("stage1.tower_lr", self.tower_lr, 0, None)
        _check_range("stage1.layer_decay", self.layer_decay, 0.01, 1)
        _check_range("stage1.vision_weight", self.vision_weight, 0, None)
        _check_range("stage1.text_weight", self.text_weight, 0, None)
        some = self.vision_weight > 0 or self.text_weight > 0
        rule = "must be above 0 if stage1.vision_weight is 0, or stage 1 has nothing to train"
        _check(some, "stage1.text_weight", rule, self.text_weight)
        if self.pretrained_share != "validation":
            _check_range("stage1.pretrained_share", self.pretrained_share, 0, 1)
        _check_range("stage1.accumulate", self.accumulate, 1, None)
        whole = self.batch_size % self.accumulate == 0
        rule = f"must be a multiple of stage1.accumulate ({self.accumulate})"
        _check(whole, "stage1.batch_size", rule, self.batch_size)
        micro_batch = self.batch_size // self.accumulate
        _check_range("stage1.sampled_classes", self.sampled_classes, micro_batch + 1, None)
        plain = self.sampled_classes is None or self.label_smoothing == 0
        rule = "must be 0 with stage1.sampled_classes"
        _check(plain, "stage1.label_smoothing", rule, self.label_smoothing)

    @property
    def sources(self) -> tuple[Source, ...]:
        """The sources of logits that stage 1 trains."""
        weights: dict[Source, float] = {"vision": self.vision_weight, "text": self.text_weight}
        return tuple(source for source, weight in weights.items() if weight > 0)


@dataclass(frozen=True, kw_only=True)
class Stage2Config(StageConfig):
    """Stage 2 trains the fusion module on embeddings that the frozen towers computed once."""

    name: ClassVar[str] = "stage2"
    epochs: int = 20
    """Passes over the stored embeddings."""
    batch_size: int = 64
    """Embeddings in one optimiser step, summed over processes."""
    lr: float = 1e-4
    """Peak learning rate of the fusion module."""
    start: Literal["stage1", "noise"] = "stage1"
    """Where the fusion module starts. stage1: from the classifier and the texts of stage 1; label smoothing
    would first unlearn them. noise: random, which wants up to ten times the rate, twice the epochs and
    label smoothing 0.1."""
    text_loudness: float = 1.0
    """With start `stage1`: how loud the class texts are beside the image when the fusion starts. 1: equally;
    9 suited descriptions that know more than the photographs teach."""
    views: int = 1
    """Views of each training photograph that are embedded and stored: first the one that a test would see,
    then random ones as in stage 1. Each costs a pass of the image tower; an epoch goes over all of them."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_range("stage2.text_loudness", self.text_loudness, 0.0, None)
        _check_range("stage2.views", self.views, 1, None)


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run: data, model, both stages."""

    seed: int = 0
    """Seed of every random choice of the run."""
    device: Device = "auto"
    """Where to compute; auto takes an accelerator if there is one."""
    precision: PrecisionSetting = "auto"
    """auto: bf16 on a GPU or CPU that has instructions for it, otherwise fp32. Weights are always fp32."""
    compile: bool = False
    """Compile the step of stage 1 (torch.compile): it costs a minute and is faster after that, most of all
    on a GPU."""
    checkpoint_steps: int = 500
    """Optimiser steps between checkpoints; one is also written at the end of every epoch."""
    final_test: bool = True
    """Evaluate on the test split when the training ends; set it to false while you choose settings."""
    calibrate: bool = True
    """Fit a temperature on the validation photographs when the training ends, so that probabilities mean
    something, and keep what abstention and sets of classes need; false = leave the logits as they are."""
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    stage1: Stage1Config = field(default_factory=Stage1Config)
    stage2: Stage2Config = field(default_factory=Stage2Config)

    def __post_init__(self) -> None:
        _check_range("seed", self.seed, 0, 2**31 - 1)
        _check_range("checkpoint_steps", self.checkpoint_steps, 1, None)
        fits = self.stage2.start == "noise" or not self.model.fusion_norm
        rule = "must be noise with model.fusion_norm, which changes what stage 1's classifier sees"
        _check(fits, "stage2.start", rule, self.stage2.start)
        both = self.stage2.start == "noise" or len(self.stage1.sources) == 2
        rule = "must be noise unless stage1.vision_weight and stage1.text_weight are above 0"
        _check(both, "stage2.start", rule, self.stage2.start)
        answers, trained = self.model.prediction, self.stage1.sources
        rule = f"must be fusion or what stage 1 trains ({', '.join(trained)})"
        _check(answers in ("fusion", *trained), "model.prediction", rule, answers)


def _check(fine: bool, setting: str, rule: str, value: object) -> None:
    if not fine:
        raise ConfigError(f"{setting} {rule}, got {value}")


def _check_range(setting: str, value: float | None, low: float, high: float | None) -> None:
    """Refuse a number outside low..high; None always passes."""
    if value is None or (math.isfinite(value) and value >= low and (high is None or value <= high)):
        return
    rule = f"must be at least {low:g}" if high is None else f"must be between {low:g} and {high:g}"
    raise ConfigError(f"{setting} {rule}, got {value}")
