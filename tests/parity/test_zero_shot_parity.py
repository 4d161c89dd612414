"""Zero-shot logits of an aligned pair against a whole open_clip CLIP with the same random weights.

Small sizes under the true names of both libraries, fetched from a hub on this machine by the libraries' own
loaders. The tower in timm's layout is what timm itself makes of the CLIP.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import open_clip
import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tests.loopback_hub import ask, serving
from timm.models.vision_transformer import checkpoint_filter_fn
from torch import Tensor

from mpfgvc.config import ImageTowerConfig, ModelConfig, TextTowerConfig
from mpfgvc.data.preprocessing import Preprocessing
from mpfgvc.errors import ConfigError
from mpfgvc.inference.saved_model import SavedModel, load_model, save_model
from mpfgvc.model.network import MPFGVC

CLASSES = ["crow", "red-winged blackbird", "chuck-will's-widow"]
TIMM_SIZES: dict[str, Any] = {"embed_dim": 48, "num_heads": 3, "depth": 4, "img_size": 64}
SETTINGS: dict[str, Any] = {
    "embed_dim": 20,
    "vision_cfg": {"image_size": 64, "patch_size": 16, "width": 48, "head_width": 16, "layers": 4},
    "text_cfg": {"width": 24, "heads": 3, "layers": 2},
}
"""16 patches, images 48 wide, texts 24 wide, both 20 wide in the end."""
PREPARED = Preprocessing(image_size=(64, 64), mean=(0.4, 0.5, 0.6), std=(0.1, 0.1, 0.1))
PAIRS = [
    ("vit_base_patch16_clip_224.openai", "ViT-B-16", "openai"),
    ("vit_base_patch16_clip_quickgelu_224.openai", "ViT-B-16-quickgelu", "openai"),
    ("vit_base_patch16_clip_224.laion2b", "ViT-B-16", "laion2b_s34b_b88k"),
]
REPOSITORIES = {
    "openai": ("timm/vit_base_patch16_clip_224.openai", "timm/vit_base_patch16_clip_224.openai"),
    "laion2b_s34b_b88k": ("timm/vit_base_patch16_clip_224.laion2b", "laion/CLIP-ViT-B-16-laion2B-s34B-b88K"),
}
"""Where timm and open_clip look for the weights of a tag."""


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The towers of every name have small sizes in both libraries."""
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, **given: create(name, **(given | TIMM_SIZES)))
    config = open_clip.get_model_config
    monkeypatch.setattr(
        open_clip, "get_model_config", lambda name: SETTINGS | {"quick_gelu": config(name).get("quick_gelu", False)}
    )


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a hub that both libraries ask; a repository is a folder `user/name`."""
    with serving(tmp_path / "hub") as address:
        ask(monkeypatch, address, tmp_path / "cache")
        yield tmp_path / "hub"


@pytest.mark.parametrize(("image", "text", "tag"), PAIRS)
def test_a_pair_of_the_hub_starts_with_the_logits_of_its_clip(hub: Path, image: str, text: str, tag: str) -> None:
    clip = _clip(quick_gelu=tag == "openai")
    timms, open_clips = (hub / repository for repository in REPOSITORIES[tag])
    _save(_in_timms_layout(clip), timms / "model.safetensors")
    _save(clip.state_dict(), open_clips / "open_clip_model.safetensors")
    towers = ImageTowerConfig(name=image, image_size=64), TextTowerConfig(name=text, pretrained=tag)
    config = _config(*towers)
    network = MPFGVC.from_config(config, CLASSES)
    activation = "QuickGELU" if tag == "openai" else "GELU"
    note = f"projection 48 -> 20: the towers' own, both are of one CLIP and compute {activation}"
    assert (network.start.aligned, network.start.notes[-1]) == (True, note)
    _assert_zero_shot(network, clip)
    saved = SavedModel(network=network, preprocessing=PREPARED, config=config)
    save_model(saved, hub / "model")
    _assert_zero_shot(load_model(hub / "model").network, clip)


@pytest.mark.parametrize("quick", ["", "quickgelu"])
def test_a_pair_of_local_files_starts_with_the_logits_of_its_clip(tmp_path: Path, quick: str) -> None:
    clip = _clip(quick_gelu=bool(quick))
    network = MPFGVC.from_config(_local(clip, clip, tmp_path, quick=quick), CLASSES)
    assert network.start.aligned
    _assert_zero_shot(network, clip)


def test_a_resized_pair_is_still_a_pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = _clip()
    config = _local(clip, clip, tmp_path)
    monkeypatch.setitem(TIMM_SIZES, "img_size", (96, 48))
    assert MPFGVC.from_config(config, CLASSES).start.aligned


def test_towers_of_two_trainings_start_at_random(tmp_path: Path) -> None:
    clip, other = _clip(), _clip(seed=4)
    network = MPFGVC.from_config(_local(clip, other, tmp_path), CLASSES, seed=3)
    assert not network.start.aligned
    assert network.start.notes == (
        "projection 48 -> 20: random, the text tower was trained with another image tower than this one",
    )


def test_a_tower_that_was_tuned_in_its_last_block_is_not_its_clips(tmp_path: Path) -> None:
    clip, tuned = _clip(), _clip()
    with torch.no_grad():
        tuned.visual.transformer.resblocks[-1].mlp.c_proj.weight[3, 5] += 0.02
    assert not MPFGVC.from_config(_local(tuned, clip, tmp_path), CLASSES).start.aligned


def test_half_precision_in_one_of_the_files_does_not_part_a_pair(tmp_path: Path) -> None:
    clip = _clip()
    config = _local(clip, clip, tmp_path)
    _save({name: value.half() for name, value in clip.state_dict().items()}, tmp_path / "clip.safetensors")
    assert MPFGVC.from_config(config, CLASSES).start.aligned


def test_a_text_tower_alone_proves_nothing(tmp_path: Path) -> None:
    clip = _clip()
    config = _local(clip, clip, tmp_path)
    texts = {name: value for name, value in clip.state_dict().items() if not name.startswith("visual.")}
    _save(texts, tmp_path / "clip.safetensors")
    assert not MPFGVC.from_config(config, CLASSES).start.aligned


def test_one_clip_with_two_activations_is_refused_with_both_names(tmp_path: Path) -> None:
    clip = _clip()
    _local(clip, clip, tmp_path)
    with pytest.raises(ConfigError) as refusal:
        MPFGVC.from_config(_of_files(tmp_path, text="ViT-B-16-quickgelu"), CLASSES)
    line = "got GELU by vit_base_patch16_clip_224 and QuickGELU by ViT-B-16-quickgelu"
    assert line in str(refusal.value)


@pytest.mark.parametrize("side", ["image", "text"])
def test_a_random_tower_belongs_to_no_pair(tmp_path: Path, side: str) -> None:
    clip = _clip()
    config = _local(clip, clip, tmp_path)
    image, text = config.image_tower, config.text_tower
    if side == "image":
        image = ImageTowerConfig(name=image.name, pretrained=False, image_size=64)
    else:
        text = TextTowerConfig(name=text.name, pretrained=None)
    network = MPFGVC.from_config(_config(image, text), CLASSES)
    assert not network.start.aligned
    assert "random weights" in network.start.notes[0]


def _clip(*, quick_gelu: bool = False, seed: int = 9) -> Any:
    """A whole CLIP with random weights, its biases, norms and projections away from zero and one."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        clip = open_clip.CLIP(
            SETTINGS["embed_dim"], SETTINGS["vision_cfg"], SETTINGS["text_cfg"], quick_gelu=quick_gelu
        )
        with torch.no_grad():
            for parameter in clip.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape))
    return clip.eval().requires_grad_(False)


def _in_timms_layout(clip: Any) -> dict[str, Tensor]:
    model = timm.create_model("vit_base_patch16_clip_224", num_classes=SETTINGS["embed_dim"])
    state: dict[str, Tensor] = checkpoint_filter_fn(clip.state_dict(), model)
    model.load_state_dict(state, strict=True)
    return state


def _save(state: dict[str, Tensor], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous().clone() for name, value in state.items()}, path)


def _local(tower: Any, clip: Any, folder: Path, **options: Any) -> ModelConfig:
    """Settings with the image tower of one CLIP and the whole file of another."""
    _save(_in_timms_layout(tower), folder / "tower.safetensors")
    _save(clip.state_dict(), folder / "clip.safetensors")
    return _of_files(folder, **options)


def _of_files(folder: Path, *, quick: str = "", text: str | None = None) -> ModelConfig:
    image = f"vit_base_patch16_clip_{quick}_224".replace("__", "_")
    return _config(
        ImageTowerConfig(name=image, weights=str(folder / "tower.safetensors")),
        TextTowerConfig(name=text or f"ViT-B-16-{quick}".rstrip("-"), weights=str(folder / "clip.safetensors")),
    )


def _config(image: ImageTowerConfig, text: TextTowerConfig) -> ModelConfig:
    return ModelConfig(
        image_tower=image, text_tower=text, kept_tokens=None, context_init="a photo of a", prompt_ending="class"
    )


@torch.no_grad()
def _assert_zero_shot(network: MPFGVC, clip: Any) -> None:
    """The text logits are the library's cosines over tau, within 1e-4."""
    images = torch.randn(5, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    logits = network.eval()(images).text
    sentences = open_clip.SimpleTokenizer()([f"a photo of a {name}" for name in CLASSES])
    cosines = F.normalize(clip.encode_image(images), dim=-1) @ F.normalize(clip.encode_text(sentences), dim=-1).T
    assert cosines.std(dim=0).min() > 1e-3, "the photographs differ"
    torch.testing.assert_close(logits, cosines / 0.07, atol=1e-4, rtol=0)
