"""Every setting, with its default, its unit and its rule.

Frozen keyword-only dataclasses; the docstring below a field is its help on the
command line. A value is checked once, when the dataclass is made; a rule
that needs the data or the tower (how many patches there are) is checked where
these become known. `config_io.load_config` makes a `Config` from YAML and overrides.

A run is here; its parts are in config_data, config_model and config_stages, and are imported from here.
The defaults are the truth. The recipe `folder`, for your own class folders, repeats every one of them, and a
test compares the two.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from mpfgvc.config_data import MOST_PICTURES as MOST_PICTURES
from mpfgvc.config_data import NESTED_FOLDERS as NESTED_FOLDERS
from mpfgvc.config_data import AugmentConfig as AugmentConfig
from mpfgvc.config_data import BirdsConfig as BirdsConfig
from mpfgvc.config_data import DataConfig as DataConfig
from mpfgvc.config_data import DatasetName as DatasetName
from mpfgvc.config_data import OnError as OnError
from mpfgvc.config_model import BUNDLED_DESCRIPTIONS as BUNDLED_DESCRIPTIONS
from mpfgvc.config_model import ImageTowerConfig as ImageTowerConfig
from mpfgvc.config_model import ModelConfig as ModelConfig
from mpfgvc.config_model import Selection as Selection
from mpfgvc.config_model import TextTowerConfig as TextTowerConfig
from mpfgvc.config_rules import check, check_range
from mpfgvc.config_stages import Stage1Config as Stage1Config
from mpfgvc.config_stages import Stage2Config as Stage2Config
from mpfgvc.config_stages import StageConfig as StageConfig
from mpfgvc.terms import Resize as Resize
from mpfgvc.terms import Source as Source

Device = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["fp32", "bf16"]
"""bf16: products in bfloat16 where autocast takes it; weights stay in float32 in either case."""
PrecisionSetting = Literal["auto", "fp32", "bf16"]
Sharding = Literal["none", "full"]


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
    sharding: Sharding = "none"
    """With several processes. none: each holds all weights, gradients and optimiser state (DDP); full: each
    holds its share of them (FSDP2), for towers that do not fit. It sends weights at each step."""
    checkpoint_steps: int = 500
    """Optimiser steps between checkpoints; one is also written at the end of every epoch."""
    process_timeout: int = 3600
    """Seconds that processes wait for one that does not answer, as on a host that was cut off, before they
    give up. It must cover what the first process does alone, such as reading all headers."""
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
        check_range("seed", self.seed, 0, 2**31 - 1)
        check_range("checkpoint_steps", self.checkpoint_steps, 1, None)
        check_range("process_timeout", self.process_timeout, 1, None)
        fits = self.stage2.start == "noise" or not self.model.fusion_norm
        rule = "must be noise with model.fusion_norm, which changes what stage 1's classifier sees"
        check(fits, "stage2.start", rule, self.stage2.start)
        both = self.stage2.start == "noise" or len(self.stage1.sources) == 2
        rule = "must be noise unless stage1.vision_weight and stage1.text_weight are above 0"
        check(both, "stage2.start", rule, self.stage2.start)
        answers, trained = self.model.prediction, self.stage1.sources
        rule = f"must be fusion or what stage 1 trains ({', '.join(trained)})"
        check(answers in ("fusion", *trained), "model.prediction", rule, answers)
