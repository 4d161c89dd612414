"""Every default is that of the recipe `folder`; every rule names its setting and the value."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mpfgvc.config import Config, ImageTowerConfig, ModelConfig, Stage1Config, Stage2Config
from mpfgvc.errors import ConfigError
from mpfgvc.recipes_io import load_config

PATHS = {
    "data.root": "photos",
    "data.manifest": "lists/photos.csv",
    "model.image_tower.weights": "towers/image.safetensors",
    "model.text_tower.weights": "towers/text.safetensors",
    "model.descriptions": "words.yaml",
}


def test_the_defaults_are_the_recipe_folder_and_run_the_whole_method() -> None:
    config = load_config()
    assert config == load_config("folder") == Config()
    assert (config.model.kept_tokens, config.stage1.patience, config.data.dataset) == (49, 5, "folder")


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: ModelConfig(kept_tokens=0), "model.kept_tokens must be at least 1, got 0"),
        (lambda: ModelConfig(supercategory=" "), "model.supercategory must hold a word, such as bird, got nothing"),
        (lambda: ModelConfig(prompt_weight=0), "model.prompt_weight must be above 0, got 0"),
        (lambda: Stage1Config(pretrained_share=1.2), "stage1.pretrained_share must be at most 1, got 1.2"),
        (lambda: Stage1Config(lr=math.inf), "stage1.lr must be a number, got inf"),
        (
            lambda: Stage1Config(vision_weight=0, text_weight=0),
            "stage1.text_weight must be above 0 if stage1.vision_weight is 0, or stage 1 has nothing to train, got 0.0",
        ),
        (
            lambda: Config(
                model=ModelConfig(prediction="text"),
                stage1=Stage1Config(text_weight=0),
                stage2=Stage2Config(start="random"),
            ),
            "model.prediction must be fusion or what stage 1 trains (vision), got text",
        ),
        (
            lambda: Config(stage1=Stage1Config(vision_weight=0)),
            "stage2.start must be random unless stage1.vision_weight and stage1.text_weight are above 0, got stage1",
        ),
        (lambda: Stage2Config(lr=-1), "stage2.lr must be at least 0, got -1"),
        (
            lambda: ImageTowerConfig(image_size=[48]),
            "model.image_tower.image_size must be one number or [height, width], got [48]",
        ),
        (
            lambda: Stage1Config().replaced(batch_size=10, accumulate=4),
            "stage1.batch_size must be a multiple of stage1.accumulate (4), got 10",
        ),
    ],
)
def test_a_broken_rule_names_its_setting_and_the_value(make: Any, line: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        make()
    assert str(refusal.value) == line


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("data.root", Path("birds #2"), "birds #2"),
        ("data.root", None, None),
        ("model.kept_tokens", np.int64(7), 7),
        ("stage1.lr", 1, 1.0),
        ("stage1.lr", np.float32(0.5), 0.5),
        ("model.image_tower.image_size", (48, 80), [48, 80]),
    ],
)
def test_python_values_are_taken_as_they_are(name: str, value: object, kept: object) -> None:
    found: Any = load_config(overrides={name: value})
    for part in name.split("."):
        found = getattr(found, part)
    assert (found, type(found)) == (kept, type(kept))


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("data.root", 2011, "data.root must be text or null, got 2011"),
        ("data.root", b"birds", "data.root must be text or null, got b'birds'"),
        ("data.root", "a\0b", "data.root must not be empty or contain a NUL character"),
        ("seed", True, "seed must be a whole number, got true"),
        ("seed", "3", "seed must be a whole number, got 3"),
        ("seed", 3.0, "seed must be a whole number, got 3.0"),
        ("seed", None, "seed must be a whole number, got null"),
        ("stage1.lr", 10**400, "stage1.lr must be a number, got 1000"),
        ("compile", "true", "compile must be true or false, got true"),
        ("data", 3, "data must hold settings of its own, got 3"),
        ("seed.x", 3, "seed must be a whole number, got {'x': 3}"),
        ("sed", 3, "unknown setting sed; did you mean seed?"),
        ("stage1.name", "x", "unknown setting stage1.name; there are: epochs"),
        ("model.kept_token", 4, "unknown setting model.kept_token; did you mean model.kept_tokens?"),
    ],
)
def test_a_wrong_name_or_type_is_refused(name: str, value: object, rule: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        load_config(overrides={name: value})
    assert str(refusal.value).startswith(rule)


def test_a_dictionary_sets_some_settings_of_a_group_and_leaves_the_others() -> None:
    config = load_config("cub", overrides={"data.augment": {"flip": 0}, "data": {"root": "x"}})
    assert (config.data.augment.flip, config.data.augment.crop) == (0.0, "random")
    assert (config.data.root, config.data.dataset) == ("x", "cub")


def test_relative_paths_hold_in_any_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = load_config(overrides=PATHS).with_absolute_paths()
    assert config == load_config(overrides={name: tmp_path / path for name, path in PATHS.items()})


def test_what_others_read_has_names_of_files_and_no_folder(tmp_path: Path) -> None:
    told = load_config(overrides={name: tmp_path / path for name, path in PATHS.items()}).without_folders()
    assert str(tmp_path) not in str(told)
    assert (told.data.root, told.data.manifest, told.model.descriptions) == (None, None, "words.yaml")
    assert told.model.image_tower.weights == "image.safetensors"


@pytest.mark.parametrize(
    ("name", "word"), [("model.descriptions", "bundled"), ("data.taxonomy", "folders"), ("data.root", None)]
)
def test_a_word_that_stands_for_no_file_stays(name: str, word: str | None) -> None:
    config = load_config("folder", overrides={name: word})
    assert config.with_absolute_paths() == config.without_folders() == config
