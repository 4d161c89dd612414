"""Every setting, with its default, its range and its help.

Frozen models of pydantic: strict types, no unknown names. The range stands in the field, the docstring below
it is its help on the command line, and `Advanced` keeps it out of the short help. A rule between two settings
is a validator of their class; what needs the data or the tower is checked where these become known.
`recipes_io.load_config` makes a `Config` from recipes, files and words.

A refusal is a ConfigError of one line: setting, rule, value got. The recipe `folder` is these defaults.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, Literal, Self, TypeAlias, TypeVar, Union, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo

from mpfgvc.errors import ConfigError
from mpfgvc.terms import Device, PrecisionSetting, Resize, Sharding, Source

MOST_PICTURES = 100_000
"""Synthetic pictures that a class may have in each split."""
NESTED_FOLDERS = "folders"
"""The value of `data.taxonomy` that stands for class folders inside the folders of their groups."""
BUNDLED_DESCRIPTIONS = "bundled"
"""The value of `model.descriptions` that stands for the sentences of the synthetic birds."""
DatasetName = Literal["cub", "dogs", "nabirds", "food101", "flowers102", "folder", "manifest", "shards", "synthetic"]
OnError = Literal["raise", "skip"]
Selection = Literal["attention", "rollout", "random"]


def _text(value: str) -> str:
    if not value or "\0" in value:
        raise ValueError("must not be empty or contain a NUL character; leave it out instead")
    return value


def _words(value: str) -> str:
    if not value.strip():
        raise ValueError("must hold a word, such as bird")
    return value


T = TypeVar("T")
_ADVANCED, _PATH = "advanced", "path"
Advanced: TypeAlias = Annotated[T, _ADVANCED]
"""A setting that `--help` leaves to `--help-all`."""
Share: TypeAlias = Annotated[float, Field(ge=0, le=1)]
NotNegative: TypeAlias = Annotated[float, Field(ge=0)]
Positive: TypeAlias = Annotated[float, Field(gt=0)]
Count: TypeAlias = Annotated[int, Field(ge=0)]
AtLeastOne: TypeAlias = Annotated[int, Field(ge=1)]
Seed: TypeAlias = Annotated[int, Field(ge=0, le=2**31 - 1)]
Text: TypeAlias = Annotated[str, AfterValidator(_text)]
OptionalPath: TypeAlias = Annotated[Text | None, _PATH]


def check(fine: bool, setting: str, rule: str, value: object) -> None:
    """Raise ConfigError unless `fine`."""
    if not fine:
        raise ConfigError(f"{setting} {rule}, got {shown(value)}", setting=setting)


def in_words(kind: Any) -> str:
    """What a setting of this type must be, such as `a whole number or null`."""
    words = {int: "a whole number", float: "a number", str: "text", bool: "true or false", NoneType: "null"}
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return in_words(parts[0])
    if origin is Literal:
        return f"one of {', '.join(parts)}" if len(parts) > 1 else str(parts[0])
    if origin is list:
        return f"a list of {in_words(parts[0]).removeprefix('a ')}s"
    if origin in (Union, UnionType):
        return " or ".join(map(in_words, parts))
    return words.get(kind, "settings of its own")


def shown(value: object) -> str:
    """A value as a message shows it: on one line, at most 60 characters."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return " ".join(str(value).split())[:60] or "nothing"


def _refusal(kind: type[Settings], error: ValidationError) -> ConfigError:
    """The first broken rule: setting, rule, value got."""
    first = error.errors(include_url=False)[0]
    problem, limits = first["type"], first.get("ctx", {})
    if problem == "model_type":
        setting = kind.prefix.removesuffix(".")
        return ConfigError(f"{setting} must hold settings of its own, got {shown(first['input'])}", setting=setting)
    name = str(first["loc"][0])
    setting = kind.prefix + name
    if problem == "extra_forbidden":
        known = list(kind.model_fields)
        near = difflib.get_close_matches(name, known, n=1)
        instead = f"did you mean {kind.prefix}{near[0]}?" if near else f"there are: {', '.join(known)}"
        return ConfigError(f"unknown setting {setting}; {instead}", setting=setting)
    bounds = {"ge": "at least", "gt": "above", "le": "at most"}
    bound = next((f"must be {words} {limits[key]:g}" for key, words in bounds.items() if key in limits), None)
    rule = str(limits.get("error", bound or f"must be {in_words(kind.model_fields[name].annotation)}"))
    return ConfigError(f"{setting} {rule}, got {shown(first['input'])}", setting=setting)


class Settings(BaseModel):
    """A group of settings. Raises ConfigError in one line for a value that breaks a rule."""

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )
    prefix: ClassVar[str] = ""
    """What stands before the names of these settings in a dotted name."""

    @model_validator(mode="wrap")
    @classmethod
    def _refuse_in_one_line(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(values)
        except ValidationError as error:
            raise _refusal(cls, error) from None

    @field_validator("*", mode="before")
    @classmethod
    def _as_in_a_file(cls, value: Any) -> Any:
        """Paths are texts, tuples are lists, and numbers of numpy are Python's."""
        if isinstance(value, os.PathLike):
            return os.fspath(value)
        if isinstance(value, tuple):
            return list(value)
        return value.item() if type(value).__module__ == "numpy" and hasattr(value, "item") else value

    def replaced(self, **changes: Any) -> Self:
        """These settings with some others, which are checked as any."""
        return type(self)(**{**dict(self), **changes})

    def with_absolute_paths(self) -> Self:
        """The settings with paths that hold in any working directory."""
        return self._with_paths(lambda path: str(Path(path).expanduser().absolute()))

    def without_folders(self) -> Self:
        """The settings without a folder of this machine: files keep their names only."""
        return self._with_paths(lambda path: Path(path).name)

    def _with_paths(self, change: Callable[[str], str]) -> Self:
        """The settings with other paths; URLs and the words that stand for no file stay as they are."""
        values: dict[str, Any] = dict(self)
        for name, value in values.items():
            if isinstance(value, Settings):
                values[name] = value._with_paths(change)
            elif value is not None and _PATH in type(self).model_fields[name].metadata:
                is_file = value not in (BUNDLED_DESCRIPTIONS, NESTED_FOLDERS) and "://" not in value
                values[name] = change(value) if is_file else value
        return type(self)(**values)


class AugmentConfig(Settings):
    """Random changes to a training photograph."""

    prefix: ClassVar[str] = "data.augment."
    crop: Advanced[Literal["resized", "random"]] = "resized"
    """resized: a random part of random size and shape; random: scale, then cut out a random place."""
    min_scale: Advanced[Annotated[float, Field(gt=0, le=1)]] = 0.4
    """Smallest part of the photograph that a resized crop may show, as a share of its area. 0..1."""
    flip: Advanced[Share] = 0.5
    """Probability of a mirror image. 0..1."""


class BirdsConfig(Settings):
    """The synthetic birds: a benchmark that is drawn, not downloaded."""

    prefix: ClassVar[str] = "data.birds."
    species: Annotated[int, Field(ge=2, le=200)] = 30
    """Classes, the first of 200, in families of five. 2..200"""
    train: Annotated[int, Field(ge=1, le=MOST_PICTURES)] = 20
    """Training pictures of each class."""
    test: Annotated[int, Field(ge=0, le=MOST_PICTURES)] = 20
    """Test pictures of each class; they do not depend on the number for training."""
    image_size: Advanced[Annotated[int, Field(ge=32, le=2048)]] = 96
    """Width and height of a picture in pixels."""
    seed: Advanced[Seed] = 0
    """Seed of the pictures; the classes do not depend on it."""


class DataConfig(Settings):
    """The photographs and how they become tensors."""

    prefix: ClassVar[str] = "data."
    dataset: DatasetName = "folder"
    """Layout on disk. cub, dogs, nabirds, food101, flowers102: as CUB-200-2011, Stanford Dogs, NABirds,
    Food-101 and Oxford Flowers-102 are published; folder: one folder per class, with or without
    train/val/test above them; manifest: a table; shards: tar files that mpfgvc data pack or others wrote
    (docs/shards.md); synthetic: birds that are drawn when needed, no files."""
    root: OptionalPath = None
    """Folder of the dataset; for a manifest, the folder that its paths start from."""
    manifest: OptionalPath = None
    """CSV or Parquet file with the columns path, label and, optionally, split (train, val, test)."""
    taxonomy: OptionalPath = None
    """The tree above the classes, for answers such as a genus: a CSV file, NABirds' hierarchy.txt, or folders
    if the class folders of data.root are nested in it (docs/certainty.md); null = none."""
    validation: Annotated[float, Field(ge=0, le=0.9)] = 0.1
    """Share of the training photographs of each class held out for validation, if the dataset has no
    validation split of its own; 0 = none. 0..0.9"""
    test: Annotated[float, Field(ge=0, le=0.9)] = 0.2
    """Share of all photographs held out for the final test, if the dataset has no splits. 0..0.9"""
    resize: Advanced[Resize] = "short"
    """short: scale the shorter side, keep the shape; squash: scale both sides to a fixed size."""
    crop_ratio: Advanced[Annotated[float, Field(ge=0.1, le=1)] | None] = None
    """Share of the scaled side that the centre crop keeps; null = the tower's own. 0.1..1"""
    augment: AugmentConfig = AugmentConfig()
    birds: BirdsConfig = BirdsConfig()
    workers: Count | None = None
    """Loader processes for each training process. null = one for each core, at most 8, or a quarter of that
    while a model is evaluated on the CPU."""
    on_error: OnError = "raise"
    """What happens at a broken photograph. raise: the run ends and names the file; skip: it is left out
    and counted."""

    @model_validator(mode="after")
    def _check_dataset(self) -> Self:
        fits = self.taxonomy != NESTED_FOLDERS or self.dataset == "folder"
        check(fits, "data.taxonomy", f"must be a file with data.dataset={self.dataset}", self.taxonomy)
        return self


class ImageTowerConfig(Settings):
    """The image tower: a timm vision transformer with a class token."""

    prefix: ClassVar[str] = "model.image_tower."
    name: Text = "vit_base_patch16_224.augreg_in21k"
    """Name of a timm model, with or without its pretrained tag; or mpfgvc-birds, which is bundled. Weights
    of the hub that were trained with the quick GELU are computed with it under either of timm's names."""
    pretrained: Advanced[bool] = True
    """Load timm's weights for this name from the hub, or the bundled ones."""
    weights: OptionalPath = None
    """Local .safetensors file with timm's parameter names, used instead of the hub, or RUN/model/model.safetensors,
    to go on from a run of one's own: with its classifier, too, where the classes are the same. The name decides
    the activation, so OpenAI's own weights need vit_base_patch16_clip_quickgelu_224."""
    image_size: AtLeastOne | list[AtLeastOne] | None = None
    """Input size in pixels: one number, or [height, width]; null = the tower's own, 224 by default."""

    @field_validator("image_size")
    @classmethod
    def _two_sides(cls, value: int | list[int] | None) -> int | list[int] | None:
        if isinstance(value, list) and len(value) != 2:
            raise ValueError("must be one number or [height, width]")
        return value


class TextTowerConfig(Settings):
    """The text tower: the causal transformer of an open_clip model. It is never trained."""

    prefix: ClassVar[str] = "model.text_tower."
    name: Text = "ViT-B-16"
    """Name of an open_clip model; or mpfgvc-birds, which is bundled; or mpfgvc-small: 4 layers, width 192,
    for random initialisation."""
    pretrained: Text | None = "openai"
    """open_clip's tag of the pretrained weights; bundled, for mpfgvc-birds; null = random from the seed."""
    weights: OptionalPath = None
    """Local .safetensors file with open_clip's parameter names, used instead of the hub; the name decides
    the activation, so OpenAI's own weights need ViT-B-16-quickgelu."""


class ModelConfig(Settings):
    """The network of the paper: its two towers and the sizes of its prompts."""

    prefix: ClassVar[str] = "model."
    image_tower: ImageTowerConfig = ImageTowerConfig()
    text_tower: TextTowerConfig = TextTowerConfig()
    supercategory: Annotated[Text, AfterValidator(_words)] | None = None
    """Word or words that end every class prompt, such as bird; null = the dataset's own, or object."""
    kept_tokens: AtLeastOne | None = 49
    """Patches of each image that reach the last block (K of the paper); null = all. 49 is a quarter of the
    196 patches of the default tower: change it together with the tower or its image_size."""
    context_tokens: Annotated[int, Field(ge=1, le=64)] = 4
    """Learnable tokens in each class prompt (J of the paper)."""
    context_init: Advanced[Text | None] = None
    """Words to start the learnable tokens from; null = normal noise of 0.02 (the paper)."""
    prompt_ending: Literal["supercategory", "class", "class_supercategory"] = "supercategory"
    """What ends a class prompt: the supercategory (the paper), the class's own name, or both."""
    descriptions: OptionalPath = None
    """CSV file with sentences about the classes, which the text tower reads (docs/descriptions.md);
    bundled = those of the synthetic birds; null = none (the paper)."""
    prompt_weight: Advanced[Positive] = 0.05
    """Weight of a class's prompt beside its descriptions, whose weight is 1; no effect without them.
    Higher for vague sentences or many photographs."""
    selection: Advanced[Selection] = "attention"
    """What chooses the kept patches. attention: the class token's, in the second-to-last block (the paper);
    rollout: attention rollout up to that block; random: chance. The last two are there to compare with."""
    prediction: Source = "fusion"
    """The source of logits that the model answers with (the paper: fusion)."""
    prompt_chunk: Advanced[AtLeastOne] = 256
    """Class prompts that the text tower reads at a time. With more classes than this, activations are
    computed twice, so that memory does not grow with the classes."""


class StageConfig(Settings):
    """Settings that both stages of the training have."""

    epochs: Count = 20
    """Passes over the training photographs."""
    batch_size: AtLeastOne = 32
    """Photographs in one optimiser step, summed over processes and micro-batches."""
    lr: NotNegative = 1e-3
    """Peak learning rate of the new parts: prompts, projection, classifiers, fusion."""
    weight_decay: Advanced[NotNegative] = 0.05
    """Weight decay of matrices; biases, norms, tokens and position embeddings have none."""
    warmup_epochs: Advanced[NotNegative] = 1.0
    """Epochs of linear warm-up, before a cosine to zero."""
    patience: AtLeastOne | None = None
    """Stop after this many epochs without a better validation accuracy, and take the best weights;
    null = never. Without validation photographs it has no effect."""
    label_smoothing: Annotated[float, Field(ge=0, le=0.999)] = 0.0
    """Share of the target spread over all classes. 0..1."""
    class_weights: Literal["none", "balanced"] = "none"
    """balanced: weigh each class by the inverse of its number of training photographs."""


class Stage1Config(StageConfig):
    """Stage 1 trains the image tower, the learnable tokens, a classifier and a projection."""

    prefix: ClassVar[str] = "stage1."
    start: Literal["features", "random"] = "features"
    """Where classifier, projection and prompts start. features: fitted, in seconds, on the embeddings that
    the pretrained tower gives of the training photographs; random: better if that tower knows little of such
    photographs, and wants more epochs at a higher tower_lr."""
    epochs: Count = 10
    """Passes over the training photographs; 0 = the tower stays as it is."""
    patience: AtLeastOne | None = 5
    """Stop after this many epochs without a better validation accuracy, and take the best weights;
    null = never. Without validation photographs it has no effect."""
    tower_lr: NotNegative = 1e-4
    """Peak learning rate of the pretrained image tower; 0 = the tower is not trained at all."""
    layer_decay: Annotated[float, Field(ge=0.01, le=1)] = 0.75
    """Learning rate of a tower block relative to the block above it; 1 = the same for all. 0.01..1"""
    vision_weight: Advanced[NotNegative] = 1.0
    """Weight of the loss of the linear classifier, L_v; 0 = without it."""
    text_weight: Advanced[NotNegative] = 1.0
    """Weight of the loss over the class texts, L_i2t; 0 = without them."""
    pretrained_share: Advanced[Share] = 0.0
    """Share of the pretrained image tower in its average with the trained one (WiSE-FT). 0..1"""
    accumulate: AtLeastOne = 1
    """Micro-batches in one optimiser step; more of them need less memory."""

    @model_validator(mode="after")
    def _check_stage1(self) -> Self:
        rule = "must be above 0 if stage1.vision_weight is 0, or stage 1 has nothing to train"
        check(bool(self.sources), "stage1.text_weight", rule, self.text_weight)
        whole = self.batch_size % self.accumulate == 0
        rule = f"must be a multiple of stage1.accumulate ({self.accumulate})"
        check(whole, "stage1.batch_size", rule, self.batch_size)
        return self

    @property
    def sources(self) -> tuple[Source, ...]:
        """The sources of logits that stage 1 trains."""
        weights: dict[Source, float] = {"vision": self.vision_weight, "text": self.text_weight}
        return tuple(source for source, weight in weights.items() if weight > 0)


class Stage2Config(StageConfig):
    """Stage 2 trains the fusion module on embeddings that the frozen towers computed once."""

    prefix: ClassVar[str] = "stage2."
    epochs: Count = 20
    """Passes over the stored embeddings."""
    batch_size: AtLeastOne = 64
    """Embeddings in one optimiser step, summed over processes."""
    lr: NotNegative = 1e-4
    """Peak learning rate of the fusion module."""
    start: Literal["stage1", "random"] = "stage1"
    """Where the fusion module starts. stage1: from the classifier and the texts of stage 1; label smoothing
    would first unlearn them. random: it wants up to ten times the rate, twice the epochs and label
    smoothing 0.1."""
    text_gain: Advanced[NotNegative] = 1.0
    """With start `stage1`: how loud the class texts are beside the image when the fusion starts. 1: equally;
    9 suited descriptions that know more than the photographs teach."""


class Config(Settings):
    """One run: data, model, both stages."""

    seed: Seed = 0
    """Seed of every random choice of the run."""
    device: Device = "auto"
    """Where to compute; auto takes an accelerator if there is one."""
    precision: PrecisionSetting = "auto"
    """auto: bf16 on a GPU or CPU that has instructions for it, otherwise fp32. Weights are always fp32."""
    compile: Advanced[bool] = False
    """Compile the step of stage 1 (torch.compile): it costs a minute and is faster after that, most of all
    on a GPU."""
    sharding: Advanced[Sharding] = "none"
    """With several processes. none: each holds all weights, gradients and optimiser state (DDP); full: each
    holds its share of them (FSDP2), for towers that do not fit. It sends weights at each step."""
    checkpoint_steps: Advanced[AtLeastOne] = 500
    """Optimiser steps between checkpoints; one is also written at the end of every epoch."""
    process_timeout: Advanced[AtLeastOne] = 3600
    """Seconds that processes wait for one that does not answer, as on a host that was cut off, before they
    give up. It must cover what the first process does alone, such as reading all headers."""
    final_test: bool = True
    """Evaluate on the test split when the training ends; set it to false while you choose settings."""
    calibrate: Advanced[bool] = True
    """Fit a temperature on the validation photographs when the training ends, so that probabilities mean
    something, and keep what abstention and sets of classes need; false = leave the logits as they are."""
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    stage1: Stage1Config = Stage1Config()
    stage2: Stage2Config = Stage2Config()

    @model_validator(mode="after")
    def _check_stages(self) -> Self:
        trained, answers = self.stage1.sources, self.model.prediction
        fits = self.stage2.start == "random" or len(trained) == 2
        rule = "must be random unless stage1.vision_weight and stage1.text_weight are above 0"
        check(fits, "stage2.start", rule, self.stage2.start)
        rule = f"must be fusion or what stage 1 trains ({', '.join(trained)})"
        check(answers in ("fusion", *trained), "model.prediction", rule, answers)
        return self

    def without_folders(self) -> Self:
        """The settings without a folder of this machine: no folder of the dataset, files by name only."""
        data = self.data.without_folders().replaced(root=None, manifest=None)
        return self.replaced(data=data, model=self.model.without_folders())


def _all_settings(kind: type[Settings]) -> Iterator[tuple[str, FieldInfo]]:
    for name, field in kind.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, Settings):
            yield from _all_settings(inner)
        else:
            yield kind.prefix + name, field


def is_advanced(field: FieldInfo) -> bool:
    """Whether `--help` leaves this setting to `--help-all`."""
    return _ADVANCED in field.metadata


SETTINGS: Mapping[str, FieldInfo] = dict(_all_settings(Config))
"""Every setting by its dotted name."""


def is_text(setting: str) -> bool:
    """Whether a setting takes a word as it is typed: a name, not a number, true or false."""
    field = SETTINGS.get(setting)
    words = "text" if field is None else in_words(field.annotation)
    return "number" not in words and words != "true or false"
