"""Every default is that of the recipe `folder`; every rule names its setting."""

from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest
import yaml

from mpfgvc.config import Config, ImageTowerConfig, ModelConfig, Stage1Config, Stage2Config
from mpfgvc.config_io import config_to_dict, load_config, parse_overrides, recipe, recipe_names
from mpfgvc.errors import ConfigError


def leaves(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in settings.items():
        found |= leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found


def names(kind: Any, prefix: str = "") -> set[str]:
    found: set[str] = set()
    for entry in fields(kind):
        value = getattr(kind, entry.name)
        found |= names(value, f"{prefix}{entry.name}.") if is_dataclass(value) else {prefix + entry.name}
    return found


def test_every_default_is_that_of_the_recipe_folder() -> None:
    defaults, folder = leaves(config_to_dict(load_config())), leaves(config_to_dict(load_config("folder")))
    assert {name: (value, folder[name]) for name, value in defaults.items() if value != folder[name]} == {}
    assert load_config() == load_config("folder") == Config()


def test_the_default_runs_the_whole_method() -> None:
    config = load_config()
    assert (config.model.kept_tokens, config.stage1.layer_decay, config.stage1.patience) == (49, 0.75, 5)
    assert (config.stage2.patience, config.data.dataset) == (None, "folder")


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_states_every_setting_so_that_changed_defaults_do_not_change_it(name: str) -> None:
    stated = yaml.safe_load(recipe(name).read_text(encoding="utf-8"))
    assert set(leaves(stated)) == names(Config())


@pytest.mark.parametrize("name", recipe_names())
def test_the_head_of_a_recipe_shows_it_by_name(name: str) -> None:
    head = recipe(name).read_text(encoding="utf-8").split("\nseed:")[0]
    assert "recipes/" not in head
    assert f"--config {name} " in head or name == "synthetic"


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: ModelConfig(kept_tokens=0), "model.kept_tokens must be at least 1, got 0"),
        (lambda: ModelConfig(supercategory=" "), "model.supercategory must hold a word, such as bird, got  "),
        (lambda: ModelConfig(temperature=float("nan")), "model.temperature must be above 0, got nan"),
        (
            lambda: Stage1Config(pretrained_share=1.2),
            "stage1.pretrained_share must be between 0 and 1, got 1.2",
        ),
        (lambda: Stage1Config(lr=float("inf")), "stage1.lr must be at least 0, got inf"),
        (
            lambda: Stage1Config(vision_weight=0, text_weight=0),
            "stage1.text_weight must be above 0 if stage1.vision_weight is 0, or stage 1 has nothing to "
            "train, got 0",
        ),
        (
            lambda: Config(
                model=ModelConfig(prediction="text"),
                stage1=Stage1Config(text_weight=0),
                stage2=Stage2Config(start="noise"),
            ),
            "model.prediction must be fusion or what stage 1 trains (vision), got text",
        ),
        (
            lambda: Config(model=ModelConfig(fusion_norm=True), stage2=Stage2Config(start="stage1")),
            "stage2.start must be noise with model.fusion_norm, which changes what stage 1's classifier "
            "sees, got stage1",
        ),
        (
            lambda: Config(stage1=Stage1Config(vision_weight=0), stage2=Stage2Config(start="stage1")),
            "stage2.start must be noise unless stage1.vision_weight and stage1.text_weight are above 0, "
            "got stage1",
        ),
        (lambda: Stage2Config(lr=-1), "stage2.lr must be at least 0, got -1"),
        (lambda: Stage1Config(clip=0), "stage1.clip must be above 0 or null, got 0"),
        (lambda: Stage2Config(ema=1), "stage2.ema must be between 0 and 0.999999, got 1"),
        (
            lambda: ImageTowerConfig(image_size=[48]),
            "model.image_tower.image_size must be one number or [height, width], got [48]",
        ),
        (
            lambda: replace(Stage1Config(), batch_size=10, accumulate=4),
            "stage1.batch_size must be a multiple of stage1.accumulate (4), got 10",
        ),
    ],
)
def test_a_broken_rule_names_its_setting_and_the_value(make: Any, line: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        make()
    assert str(refusal.value) == line


@pytest.mark.parametrize(("word", "share"), [("validation", "validation"), ("0.3", 0.3), ("1", 1.0)])
def test_a_setting_may_be_a_number_or_a_word(word: str, share: object) -> None:
    overrides = parse_overrides([f"--stage1.pretrained_share={word}"])
    assert load_config(overrides=overrides).stage1.pretrained_share == share
    with pytest.raises(ConfigError, match=r"pretrained_share must be a number or validation, got best"):
        parse_overrides(["--stage1.pretrained_share=best"])
