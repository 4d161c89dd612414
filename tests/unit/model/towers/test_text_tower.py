"""Text towers: what is refused and why, random ones from a seed, and weights from a file or a tag."""

from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from open_clip.transformer import TextTransformer
from safetensors.torch import save_file
from torch import Tensor

from mpfgvc.config import TextTowerConfig
from mpfgvc.errors import CheckpointError, ConfigError
from mpfgvc.model.towers.text_tower import TextTower, build_text_tower

VISION = {"layers": 1, "width": 64, "image_size": 32, "patch_size": 16}
SENTENCES = ["a photo of a bird", "one very small sports car"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("ViT-B-16-SigLIP", "its attention is not causal"),
        ("coca_ViT-B-32", "it is not read at the end token"),
        ("roberta-ViT-B-32", "its text model is of the transformers library, which takes token ids only"),
        ("ViT-H-14-worldwide", "its tokenizer is not CLIP's"),
    ],
)
def test_a_tower_that_cannot_carry_prompts_is_refused_by_name(name: str, reason: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        build_text_tower(TextTowerConfig(name=name, pretrained=None))
    expected = f"model.text_tower.name: {name} cannot be used, {reason}; choose a CLIP text tower"
    assert str(refusal.value).startswith(expected)


@pytest.mark.parametrize("name", ["ViT-B-17", "hf-hub:", "local-dir:/no/such/folder"])
def test_an_unknown_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"model\.text_tower\.name must be an open_clip model, got"):
        build_text_tower(TextTowerConfig(name=name, pretrained=None))


@pytest.mark.parametrize(("name", "known"), [("tiny", "null"), ("ViT-B-16", "openai, laion400m_e31")])
def test_an_unknown_tag_is_refused_with_those_there_are(
    monkeypatch: pytest.MonkeyPatch, tiny_text_by_name: dict[str, Any], name: str, known: str
) -> None:
    _shrink_open_clip(monkeypatch, tiny_text_by_name)
    with pytest.raises(ConfigError) as refusal:
        build_text_tower(TextTowerConfig(name=name, pretrained="no_such_tag"))
    assert f"model.text_tower.pretrained must be one of {known}" in str(refusal.value)


def test_a_tower_is_frozen_and_knows_its_sizes(tiny_text_tower: TextTower) -> None:
    assert (tiny_text_tower.width, tiny_text_tower.embed, tiny_text_tower.context_length) == (24, 20, 77)
    assert (tiny_text_tower.start, tiny_text_tower.end) == (49406, 49407)
    assert not tiny_text_tower.training
    assert not any(parameter.requires_grad for parameter in tiny_text_tower.parameters())


def test_a_tower_without_projection_gives_its_own_width() -> None:
    transformer = TextTransformer(width=24, heads=3, layers=1, output_dim=20, proj_type="none", vocab_size=9)
    tower = TextTower(transformer.eval())
    features = tower(torch.randn(2, 5, 24), torch.tensor([4, 3]))
    assert features.shape == (2, tower.embed) == (2, 24)


def test_a_random_tower_follows_its_seed_and_leaves_the_global_state(text_config: TextTowerConfig) -> None:
    before = torch.get_rng_state()
    first, same, other = (build_text_tower(text_config, seed=seed).state_dict() for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first["transformer.text_projection"], other["transformer.text_projection"])


def test_token_ids_are_those_of_the_librarys_sentence(tiny_text_tower: TextTower) -> None:
    sentence = open_clip.tokenize("Sports Car")[0].tolist()
    ids = [tiny_text_tower.start, *tiny_text_tower.token_ids("Sports Car"), tiny_text_tower.end]
    assert sentence[: len(ids)] == ids
    assert not any(sentence[len(ids) :])


@pytest.mark.parametrize("kind", [open_clip.CLIP, open_clip.CustomTextCLIP], ids=["bare", "under-text"])
def test_the_text_part_of_a_whole_clip_is_loaded(
    tmp_path: Path, tiny_text_by_name: dict[str, Any], kind: type[open_clip.CLIP]
) -> None:
    clip = _clip(kind, tiny_text_by_name)
    path = _saved(clip.state_dict(), tmp_path / "clip.safetensors")
    tower = build_text_tower(TextTowerConfig(name="tiny", pretrained=None, weights=str(path)))
    _assert_same_features(tower, clip)


def test_a_file_that_does_not_fit_is_refused_by_path_and_tensor(tmp_path: Path, tiny_text_tower: TextTower) -> None:
    state = tiny_text_tower.transformer.state_dict()
    lacking = {name: value for name, value in state.items() if name != "ln_final.weight"}
    shorter = state | {"positional_embedding": state["positional_embedding"][:40]}
    cases = {
        "lacking": (lacking, "has no tensor ln_final.weight of shape (24,)"),
        "shorter": (shorter, "has no tensor positional_embedding of shape (77, 24)"),
        "foreign": ({"weight": torch.zeros(2, 3)}, "has no tensor positional_embedding"),
    }
    for case, (tensors, expected) in cases.items():
        path = _saved(tensors, tmp_path / f"{case}.safetensors")
        with pytest.raises(CheckpointError) as refusal:
            build_text_tower(TextTowerConfig(name="tiny", pretrained=None, weights=str(path)))
        assert str(path) in str(refusal.value)
        assert expected in str(refusal.value)
        assert "does it belong to tiny?" in str(refusal.value)


def test_a_file_that_is_no_safetensors_is_refused(tmp_path: Path) -> None:
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"not a file of tensors")
    for path in (broken, tmp_path / "missing.safetensors"):
        with pytest.raises(CheckpointError, match=r"must be a readable \.safetensors file") as refusal:
            build_text_tower(TextTowerConfig(name="tiny", weights=str(path)))
        assert str(path) in str(refusal.value)


def _shrink_open_clip(monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]) -> None:
    """Let open_clip's models, which have tags, have the sizes of the tiny tower."""
    monkeypatch.setattr(open_clip, "get_model_config", lambda name: settings)


def _clip(kind: type[open_clip.CLIP], settings: dict[str, Any], *, quick_gelu: bool = False) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(9)
        clip = kind(settings["embed_dim"], VISION, settings["text_cfg"], quick_gelu=quick_gelu)
    return clip.eval().requires_grad_(False)


def _saved(state: dict[str, Tensor], path: Path) -> Path:
    save_file({name: value.clone() for name, value in state.items()}, path)
    return path


def _assert_same_features(tower: TextTower, clip: Any) -> None:
    tokens = open_clip.tokenize(SENTENCES)
    expected = clip.encode_text(tokens)
    features = tower(tower.embed_tokens(tokens), tokens.argmax(dim=-1))
    assert (expected[0] - expected[1]).abs().max() > 1e-2
    torch.testing.assert_close(features, expected, atol=1e-5, rtol=0)
