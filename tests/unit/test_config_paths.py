"""The settings that are paths are absolute in a run, and name no folder outside of it."""

from pathlib import Path

import pytest

from mpfgvc.config import BUNDLED_DESCRIPTIONS, Config
from mpfgvc.config_io import config_to_dict, load_config
from mpfgvc.config_paths import with_absolute_paths, without_folders

PATHS = {
    "data.root": "photos",
    "data.manifest": "lists/photos.csv",
    "model.image_tower.weights": "towers/image.safetensors",
    "model.text_tower.weights": "towers/text.safetensors",
    "model.descriptions": "words.yaml",
}


def test_relative_paths_hold_in_any_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = with_absolute_paths(load_config(overrides=PATHS))
    assert config == load_config(overrides={name: str(tmp_path / path) for name, path in PATHS.items()})


def test_what_others_read_has_names_of_files_and_no_place_of_the_dataset(tmp_path: Path) -> None:
    config = load_config(overrides={name: str(tmp_path / path) for name, path in PATHS.items()})
    told = without_folders(config)
    assert str(tmp_path) not in str(config_to_dict(told))
    assert (told.data.root, told.data.manifest) == (None, None)
    assert told.model.image_tower.weights == "image.safetensors"
    assert told.model.text_tower.weights == "text.safetensors"
    assert told.model.descriptions == "words.yaml"


def test_what_is_no_path_stays(tmp_path: Path) -> None:
    bundled = load_config("synthetic", overrides={"model.descriptions": BUNDLED_DESCRIPTIONS})
    assert with_absolute_paths(bundled) == without_folders(bundled) == bundled
    assert without_folders(Config()) == Config()
