"""Weights get the activation that they were trained with, by the notes of timm."""

import pytest
import timm

from mpfgvc.model.towers.image_tower import ImageTower
from mpfgvc.model.towers.names import trained_name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("vit_base_patch16_clip_224.openai", "vit_base_patch16_clip_quickgelu_224.openai"),
        ("hf-hub:timm/vit_base_patch16_clip_224.openai", "vit_base_patch16_clip_quickgelu_224.openai"),
        ("vit_large_patch14_clip_336.openai", "vit_large_patch14_clip_quickgelu_336.openai"),
        ("vit_base_patch32_clip_224.metaclip_400m", "vit_base_patch32_clip_quickgelu_224.metaclip_400m"),
    ],
)
def test_a_name_with_the_plain_gelu_becomes_the_one_that_the_weights_were_trained_with(
    name: str, expected: str
) -> None:
    assert trained_name(name) == expected
    assert timm.is_model(expected.split(".")[0])


@pytest.mark.parametrize(
    "name",
    [
        "vit_base_patch16_clip_quickgelu_224.openai",
        "vit_base_patch16_clip_224.laion2b",
        "vit_base_patch16_clip_224.openai_ft_in1k",
        "vit_base_patch16_clip_224",
        "vit_base_patch16_clip_224.no_such_tag",
        "vit_base_patch16_224.augreg_in21k",
        "mpfgvc-birds",
        "hf-hub:someone/model",
        "local-dir:/no/such.folder",
    ],
)
def test_any_other_name_stays(name: str) -> None:
    assert trained_name(name) == name


def test_every_clip_of_timm_that_is_renamed_computes_the_quick_gelu() -> None:
    clips = timm.list_pretrained("vit_*_clip_*")
    renamed = {trained_name(name) for name in clips if trained_name(name) != name}
    assert len(renamed) > 10
    assert renamed <= set(clips)
    for name in {each.split(".")[0] for each in renamed}:
        tower = ImageTower(timm.create_model(name, embed_dim=48, num_heads=3, depth=3, num_classes=0))
        assert tower.activation == "QuickGELU"
