"""Image towers: what is refused and why, and weights from a file."""

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from timm.models import eva, vision_transformer

from mpfgvc.config import ImageTowerConfig
from mpfgvc.errors import CheckpointError, ConfigError
from mpfgvc.model.image_encoder import ImageEncoder
from mpfgvc.model.towers.image_tower import ImageTower, build_image_tower

SMALL: dict[str, Any] = {"embed_dim": 48, "num_heads": 3, "depth": 3, "num_classes": 0}
TRUE_NAMES = ["test_vit", "eva02_tiny_patch14_224"]


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("vit_base_patch16_siglip_224", SMALL, "it has no class token"),
        ("vit_pe_core_tiny_patch16_384", SMALL, "it reads the image by attention pooling"),
        ("beit_base_patch16_224", SMALL, "it is a Beit, not a plain vision transformer"),
        ("deit_tiny_distilled_patch16_224", SMALL, "it is a VisionTransformerDistilled"),
        ("vit_tiny_patch16_224", SMALL | {"depth": 2}, "it has fewer than 3 blocks"),
        ("vit_small_patch16_18x2_224", SMALL, "its blocks are ParallelThingsBlock"),
        ("eva02_tiny_patch14_224", SMALL | {"use_post_norm": True}, "its blocks are EvaBlockPostNorm"),
        ("vit_tiny_patch16_224", SMALL | {"attn_layer": "diff"}, "its attention is DiffAttention"),
        ("vit_base_patch16_sapiens2", SMALL | {"num_heads": 4, "num_kv_heads": 2}, "its heads share keys and values"),
        ("eva02_tiny_patch14_224", SMALL | {"patch_drop_rate": 0.3}, "it drops patches at random"),
    ],
)
def test_a_tower_that_cannot_be_split_is_refused_by_name(name: str, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        ImageTower(timm.create_model(name, **options))
    message = str(refusal.value)
    assert message.startswith(f"model.image_tower.name: {name} cannot be used, {reason}")
    assert "choose a ViT" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("vit_tny_patch16_224", "model.image_tower.name must be a timm model, got vit_tny_patch16_224"),
        ("vit_tiny_patch16_22", "near: vit_tiny_patch16_224"),
        ("someone/model", "near: hf-hub:user/name"),
        ("resnet18", "it is a ResNet"),
        ("convnext_tiny", "convnext_tiny cannot be used, it is a ConvNeXt, not a plain vision transformer"),
        ("vit_tiny_patch16_224.no_such_tag", "no_such_tag"),
    ],
)
def test_a_name_of_no_use_is_refused_in_one_line(name: str, expected: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        build_image_tower(ImageTowerConfig(name=name, pretrained=False))
    assert expected in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_tower_that_takes_no_size_is_refused_without_a_word_of_python() -> None:
    with pytest.raises(ConfigError) as refusal:
        build_image_tower(ImageTowerConfig(name="convnext_tiny", pretrained=False, image_size=96))
    rule = "it is no vision transformer; choose a ViT, CLIP, DINOv2, DINOv3 or EVA-02 tower"
    assert str(refusal.value) == f"model.image_tower.name: convnext_tiny cannot be used, {rule}"


@pytest.mark.parametrize(("changes", "fine"), [({}, True), ({"act_layer": "quick_gelu"}, False)])
def test_a_hubs_config_may_not_change_the_architecture_that_a_saved_model_names(
    tmp_path: Path, changes: dict[str, str], fine: bool
) -> None:
    config = {"architecture": "test_vit", "model_args": changes, "pretrained_cfg": {"input_size": [3, 48, 48]}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    settings = ImageTowerConfig(name=f"local-dir:{tmp_path}", pretrained=False, image_size=48)
    if fine:
        assert build_image_tower(settings).architecture == "test_vit"
    else:
        with pytest.raises(ConfigError, match="its config changes timm's test_vit"):
            build_image_tower(settings)


def test_a_tower_knows_its_sizes(image_tower: ImageTower) -> None:
    assert (image_tower.width, image_tower.grid, image_tower.prefix_tokens) == (64, (3, 5), 1)
    assert image_tower.image_size == image_tower.input.image_size == (48, 80)
    known = build_image_tower(ImageTowerConfig(name="vit_tiny_patch16_224", pretrained=False)).input
    assert known == ((224, 224), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bicubic", 0.9)
    registers = ImageTower(timm.create_model("vit_small_patch14_reg4_dinov2", img_size=56, **SMALL))
    assert (registers.prefix_tokens, registers.grid, registers.image_size) == (5, (4, 4), (56, 56))


def test_depth_rises_from_the_embeddings_to_the_final_norm(image_tower: ImageTower) -> None:
    depths = {name: image_tower.depth_of(name) for name, _ in image_tower.named_parameters()}
    assert depths["transformer.cls_token"] == depths["transformer.patch_embed.proj.weight"] == 0
    assert depths["transformer.blocks.0.norm1.weight"] == 1
    assert depths["transformer.blocks.5.mlp.fc2.bias"] == 6
    assert depths["transformer.norm.weight"] == image_tower.depth == 7
    assert sorted(set(depths.values())) == list(range(8))


@pytest.fixture(scope="module", params=TRUE_NAMES)
def stored(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A timm model with its classifier, random weights, stored as timm would."""
    name = request.param
    model = timm.create_model(name, pretrained=False)
    generator = torch.Generator().manual_seed(2)
    shapes = {key: value.shape for key, value in model.state_dict().items()}
    state = {key: 0.1 * torch.randn(shape, generator=generator) for key, shape in shapes.items()}
    path = tmp_path_factory.mktemp("weights") / f"{name}.safetensors"
    save_file(state, path)
    return name, path


@pytest.mark.parametrize("image_size", [None, [112, 336]])
def test_local_weights_give_timms_features(stored: tuple[str, Path], image_size: list[int] | None) -> None:
    name, path = stored
    config = ImageTowerConfig(name=name, weights=str(path), pretrained=False, image_size=image_size)
    tower = build_image_tower(config).eval()
    resized = {} if image_size is None else {"img_size": image_size}
    reference = timm.create_model(name, num_classes=0, **resized).eval()
    family = eva if name.startswith("eva") else vision_transformer
    state = family.checkpoint_filter_fn(load_file(path), reference)
    reference.load_state_dict({key: state[key] for key in reference.state_dict()})
    assert tower.image_size == tuple(image_size or reference.patch_embed.img_size)
    assert tower.transformer.state_dict().keys() == reference.state_dict().keys()
    for key, value in reference.state_dict().items():
        torch.testing.assert_close(tower.transformer.state_dict()[key], value, atol=0, rtol=0)
    images = torch.randn(2, 3, *tower.image_size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = reference.fc_norm(reference.forward_features(images)[:, 0])
        embedding = ImageEncoder(tower=tower)(images).embedding
    torch.testing.assert_close(embedding, expected, atol=1e-5, rtol=0)


def test_an_unknown_tag_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"got vit_tiny_patch16_224\.mine; known: .*augreg_in21k"):
        build_image_tower(ImageTowerConfig(name="vit_tiny_patch16_224.mine"))


def test_an_image_smaller_than_a_patch_is_refused_by_its_setting() -> None:
    config = ImageTowerConfig(name="test_vit", pretrained=False, image_size=[48, 8])
    with pytest.raises(ConfigError, match=r"image_size must be at least one patch \(16x16 pixels\)"):
        build_image_tower(config)


def test_a_file_that_does_not_fit_is_refused_by_path_and_tensor(tmp_path: Path) -> None:
    state = timm.create_model("test_vit", num_classes=0).state_dict()
    lacking = {name: value for name, value in state.items() if name != "blocks.3.attn.proj.bias"}
    narrow = timm.create_model("test_vit", num_classes=0, embed_dim=32).state_dict()
    foreign = timm.create_model("resnet18").state_dict()
    cases = {
        "lacking": (lacking, "lacks 1 tensors of the tower, first blocks.3.attn.proj.bias"),
        "narrow": (narrow, "first cls_token of shape (1, 1, 64)"),
        "foreign": (foreign, "first cls_token"),
    }
    for case, (tensors, expected) in cases.items():
        path = tmp_path / f"{case}.safetensors"
        save_file(tensors, path)
        with pytest.raises(CheckpointError) as refusal:
            build_image_tower(ImageTowerConfig(name="test_vit", weights=str(path)))
        assert str(path) in str(refusal.value)
        assert expected in str(refusal.value)


def test_a_file_that_is_no_safetensors_is_refused(tmp_path: Path) -> None:
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"not a file of tensors")
    for path in (broken, tmp_path / "missing.safetensors", tmp_path):
        with pytest.raises(CheckpointError, match=r"must be a readable \.safetensors file") as refusal:
            build_image_tower(ImageTowerConfig(name="test_vit", weights=str(path)))
        assert str(path) in str(refusal.value)
