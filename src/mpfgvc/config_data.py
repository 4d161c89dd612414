"""The settings of the photographs: where they are, how they are split, prepared and changed (config.py)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from mpfgvc.config_rules import check, check_range
from mpfgvc.terms import Resize

MOST_PICTURES = 100_000
"""Synthetic pictures that a class may have in each split."""
NESTED_FOLDERS = "folders"
"""The value of `data.taxonomy` that stands for class folders inside the folders of their groups."""
OnError = Literal["raise", "skip"]
DatasetName = Literal[
    "cub", "dogs", "nabirds", "food101", "flowers102", "folder", "manifest", "shards", "synthetic"
]


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
            check_range(f"data.augment.{name}", getattr(self, name), 0, 1)
        check(self.min_scale > 0, "data.augment.min_scale", "must be above 0", self.min_scale)


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
        check_range("data.birds.species", self.species, 2, 200)
        check_range("data.birds.train", self.train, 1, MOST_PICTURES)
        check_range("data.birds.test", self.test, 0, MOST_PICTURES)
        check_range("data.birds.image_size", self.image_size, 32, 2048)
        check_range("data.birds.seed", self.seed, 0, 2**31 - 1)


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The photographs and how they become tensors."""

    dataset: DatasetName = "folder"
    """Layout on disk. cub, dogs, nabirds, food101, flowers102: as CUB-200-2011, Stanford Dogs, NABirds,
    Food-101 and Oxford Flowers-102 are published; folder: one folder per class, with or without
    train/val/test above them; manifest: a table; shards: tar files that mpfgvc data pack or others wrote
    (docs/shards.md); synthetic: birds that are drawn when needed, no files."""
    root: str | None = None
    """Folder of the dataset; for a manifest, the folder that its paths start from; for shards, also a URL."""
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
    shuffle_shards: int | None = None
    """How many shards are shuffled together, in a random order of shards: few, to read a slow disk or a
    remote store in large pieces; null = all photographs of all shards."""
    cache_gb: float = 50.0
    """Gigabytes of shards from a URL that are kept on this disk."""
    workers: int | None = None
    """Loader processes for each training process. null = one for each core, at most 8, or a quarter of that
    while a model is evaluated on the CPU."""
    on_error: OnError = "raise"
    """What happens at a broken photograph. raise: the run ends and names the file; skip: it is left out
    and counted."""

    def __post_init__(self) -> None:
        check_range("data.validation", self.validation, 0, 0.9)
        check_range("data.test", self.test, 0, 0.9)
        check_range("data.crop_ratio", self.crop_ratio, 0.1, 1)
        check_range("data.shuffle_shards", self.shuffle_shards, 1, None)
        check_range("data.cache_gb", self.cache_gb, 0, None)
        fits = self.shuffle_shards is None or self.dataset == "shards"
        rule = f"must be null with data.dataset={self.dataset}"
        check(fits, "data.shuffle_shards", rule, self.shuffle_shards)
        check_range("data.workers", self.workers, 0, None)
        fits = self.taxonomy != NESTED_FOLDERS or self.dataset == "folder"
        check(fits, "data.taxonomy", f"must be a file with data.dataset={self.dataset}", self.taxonomy)
