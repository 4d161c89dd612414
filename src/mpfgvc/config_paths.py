"""The settings that are paths: made absolute for a run, taken out of what others will read."""

from dataclasses import replace
from pathlib import Path

from mpfgvc.config import BUNDLED_DESCRIPTIONS, NESTED_FOLDERS, Config, ModelConfig


def with_absolute_paths(config: Config) -> Config:
    """The settings with paths that hold in any working directory."""
    image_tower, text_tower = config.model.image_tower, config.model.text_tower
    model = replace(
        config.model,
        image_tower=replace(image_tower, weights=_absolute(image_tower.weights)),
        text_tower=replace(text_tower, weights=_absolute(text_tower.weights)),
        descriptions=_absolute(config.model.descriptions),
    )
    data = replace(
        config.data,
        root=_absolute(config.data.root),
        manifest=_absolute(config.data.manifest),
        taxonomy=_absolute(config.data.taxonomy),
    )
    return replace(config, model=model, data=data)


def without_folders(config: Config) -> Config:
    """The settings without a folder of this machine: the dataset's place is left out."""
    taxonomy = _file_name(config.data.taxonomy)
    data = replace(config.data, root=None, manifest=None, taxonomy=taxonomy)
    return replace(config, model=model_without_folders(config.model), data=data)


def model_without_folders(config: ModelConfig) -> ModelConfig:
    """The settings of a network without a folder of this machine: files keep their names only."""
    image_tower, text_tower = config.image_tower, config.text_tower
    return replace(
        config,
        image_tower=replace(image_tower, weights=_file_name(image_tower.weights)),
        text_tower=replace(text_tower, weights=_file_name(text_tower.weights)),
        descriptions=_file_name(config.descriptions),
    )


def _absolute(path: str | None) -> str | None:
    """The path from the root; None, URLs and the words that stand for no file stay as they are."""
    if path is None or path in (BUNDLED_DESCRIPTIONS, NESTED_FOLDERS) or "://" in path:
        return path
    return str(Path(path).expanduser().absolute())


def _file_name(path: str | None) -> str | None:
    return None if path is None else Path(path).name
