"""The repositories that the names of towers stand for."""

import pytest

from mpfgvc.config import ModelConfig
from mpfgvc.model.towers.names import hub_repositories
from mpfgvc.recipes_io import load_config


def _model(overrides: dict[str, object]) -> ModelConfig:
    return load_config(overrides={"data.root": "x"} | overrides).model


def test_the_papers_towers_are_two_repositories() -> None:
    assert hub_repositories(load_config("cub").model) == (
        "timm/vit_base_patch16_224.augreg_in21k",
        "timm/vit_base_patch16_clip_224.openai",
    )


def test_both_halves_of_one_clip_are_one_repository() -> None:
    towers = {"model.image_tower.name": "vit_base_patch16_clip_quickgelu_224.openai"}
    assert hub_repositories(_model(towers)) == ("timm/vit_base_patch16_clip_224.openai",)


@pytest.mark.parametrize(
    "overrides",
    [
        {"model.image_tower.pretrained": False, "model.text_tower.pretrained": None},
        {"model.image_tower.weights": "a.safetensors", "model.text_tower.weights": "b.safetensors"},
        {
            "model.image_tower.name": "mpfgvc-birds",
            "model.text_tower.name": "mpfgvc-birds",
            "model.text_tower.pretrained": "bundled",
        },
    ],
)
def test_random_local_and_bundled_weights_have_none(overrides: dict[str, object]) -> None:
    assert hub_repositories(_model(overrides)) == ()


def test_a_name_of_the_hub_is_its_own_repository() -> None:
    overrides = {"model.image_tower.name": "hf-hub:me/tower", "model.text_tower.pretrained": None}
    assert hub_repositories(_model(overrides)) == ("me/tower",)
