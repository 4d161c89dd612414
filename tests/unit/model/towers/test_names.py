"""What the names of towers stand for: repositories, activations, and the towers of the package."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file

import pretrain
from mpfgvc.birds.plumage import ATTRIBUTES, all_species, random_plumage
from mpfgvc.config import ImageTowerConfig, ModelConfig, TextTowerConfig
from mpfgvc.model.image_encoder import ImageEncoder
from mpfgvc.model.towers.hub import hub_repositories
from mpfgvc.model.towers.image_tower import ImageTower, build_image_tower
from mpfgvc.model.towers.names import BUNDLED, bundled_image_weights, trained_name
from mpfgvc.model.towers.text_tower import TextTower, build_text_tower
from mpfgvc.recipes_io import load_config
from zero_shot import all_sentences, attribute_accuracy


def test_the_papers_towers_are_two_repositories() -> None:
    assert hub_repositories(load_config("cub").model) == (
        "timm/vit_base_patch16_224.augreg_in21k",
        "timm/vit_base_patch16_clip_224.openai",
    )


@pytest.mark.parametrize(
    ("image", "text", "repositories"),
    [
        ({"name": "vit_base_patch16_clip_quickgelu_224.openai"}, {}, ["timm/vit_base_patch16_clip_224.openai"]),
        ({"name": "hf-hub:me/tower"}, {"pretrained": None}, ["me/tower"]),
        ({"pretrained": False}, {"pretrained": None}, []),
        ({"weights": "a.safetensors"}, {"weights": "b.safetensors"}, []),
        ({"name": "mpfgvc-birds"}, {"name": "mpfgvc-birds", "pretrained": "bundled"}, []),
    ],
)
def test_both_halves_of_a_clip_are_one_repository_and_local_weights_none(
    image: dict[str, Any], text: dict[str, Any], repositories: list[str]
) -> None:
    towers = ModelConfig(image_tower=ImageTowerConfig(**image), text_tower=TextTowerConfig(**text))
    assert list(hub_repositories(towers)) == repositories


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


CARD = Path(pretrain.__file__).with_name("CARD.md")
PICTURES = 400


@pytest.fixture(scope="module")
def text_tower() -> TextTower:
    return build_text_tower(TextTowerConfig(name="mpfgvc-birds", pretrained=BUNDLED))


@pytest.mark.slow("draws 400 pictures")
def test_the_towers_know_each_attribute_as_well_as_the_card_says(text_tower: TextTower) -> None:
    rows = re.findall(r"^\| (\w+) \| \d+ \| ([\d.]+) \| ([\d.]+) \|$", CARD.read_text(), re.MULTILINE)
    card = {name: (float(chance) / 100, float(accuracy) / 100) for name, chance, accuracy in rows}
    assert set(card) == set(ATTRIBUTES)
    tower = build_image_tower(ImageTowerConfig(name="mpfgvc-birds"))
    measured = attribute_accuracy(ImageEncoder(tower=tower, kept_tokens=None).eval(), text_tower, PICTURES)
    for name, (chance, accuracy) in card.items():
        assert measured[name] == pytest.approx(accuracy, abs=0.08), name
        assert measured[name] > 1.2 * chance, name


def test_words_of_captions_were_trained_and_others_are_random(text_tower: TextTower) -> None:
    stored = load_file(bundled_image_weights().with_name("birds_text.safetensors"))
    random = build_text_tower(TextTowerConfig(name="mpfgvc-birds", pretrained=None))
    ids = stored["token_embedding.ids"]
    rows, random_rows = (tower.transformer.token_embedding.weight for tower in (text_tower, random))
    assert rows[ids].equal(stored["token_embedding.weight"])
    others = torch.ones(len(rows), dtype=torch.bool).index_fill(0, ids, False)
    assert rows[others].equal(random_rows[others])
    words = {word for sentence in all_sentences() for word in text_tower.token_ids(sentence)}
    assert words <= set(ids.tolist())


def test_the_pretraining_never_shows_a_class_of_the_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    forbidden = [kind.plumage for kind in all_species()[:3]]
    allowed = random_plumage(np.random.default_rng(1))
    series = iter([*forbidden, allowed])
    monkeypatch.setattr(pretrain, "random_plumage", lambda _: next(series))
    assert pretrain.unseen_by_benchmark(np.random.default_rng(0)) == allowed
