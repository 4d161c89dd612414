"""The settings of the two stages of a training (config.py)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from mpfgvc.config_rules import check, check_range
from mpfgvc.terms import Source


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
        check_range(f"{stage}.epochs", self.epochs, 0, None)
        check_range(f"{stage}.batch_size", self.batch_size, 1, None)
        check_range(f"{stage}.lr", self.lr, 0, None)
        check_range(f"{stage}.weight_decay", self.weight_decay, 0, None)
        check_range(f"{stage}.warmup_epochs", self.warmup_epochs, 0, None)
        check(
            self.clip is None or 0 < self.clip < math.inf,
            f"{stage}.clip",
            "must be above 0 or null",
            self.clip,
        )
        check_range(f"{stage}.ema", self.ema, 0, 0.999999)
        check_range(f"{stage}.patience", self.patience, 1, None)
        check_range(f"{stage}.label_smoothing", self.label_smoothing, 0, 0.999)


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
        check_range("stage1.tower_lr", self.tower_lr, 0, None)
        check_range("stage1.layer_decay", self.layer_decay, 0.01, 1)
        check_range("stage1.vision_weight", self.vision_weight, 0, None)
        check_range("stage1.text_weight", self.text_weight, 0, None)
        some = self.vision_weight > 0 or self.text_weight > 0
        rule = "must be above 0 if stage1.vision_weight is 0, or stage 1 has nothing to train"
        check(some, "stage1.text_weight", rule, self.text_weight)
        if self.pretrained_share != "validation":
            check_range("stage1.pretrained_share", self.pretrained_share, 0, 1)
        check_range("stage1.accumulate", self.accumulate, 1, None)
        whole = self.batch_size % self.accumulate == 0
        rule = f"must be a multiple of stage1.accumulate ({self.accumulate})"
        check(whole, "stage1.batch_size", rule, self.batch_size)
        micro_batch = self.batch_size // self.accumulate
        check_range("stage1.sampled_classes", self.sampled_classes, micro_batch + 1, None)
        plain = self.sampled_classes is None or self.label_smoothing == 0
        rule = "must be 0 with stage1.sampled_classes"
        check(plain, "stage1.label_smoothing", rule, self.label_smoothing)

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
    text_gain: float = 1.0
    """With start `stage1`: how loud the class texts are beside the image when the fusion starts. 1: equally;
    9 suited descriptions that know more than the photographs teach."""
    views: int = 1
    """Views of each training photograph that are embedded and stored: first the one that a test would see,
    then random ones as in stage 1. Each costs a pass of the image tower; an epoch goes over all of them."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("stage2.text_gain", self.text_gain, 0.0, None)
        check_range("stage2.views", self.views, 1, None)
