"""What a recipe needs from the hub: asked for once, named whole when it is not there, and never a pickle."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from tests.loopback_hub import ask, serving

from mpfgvc.cli.main import main
from mpfgvc.config import ImageTowerConfig, ModelConfig, TextTowerConfig
from mpfgvc.errors import CheckpointError
from mpfgvc.model.network import MPFGVC
from mpfgvc.model.towers.hub import fetch, hub_files
from mpfgvc.model.towers.image_tower import ImageTower, build_image_tower

TOWER = ImageTowerConfig(name="test_vit.r160_in1k", image_size=48)
SETTINGS = {"architecture": "test_vit", "pretrained_cfg": {"input_size": [3, 48, 48], "classifier": "head"}}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a hub on this machine."""
    with serving(tmp_path / "hub") as address:
        ask(monkeypatch, address, tmp_path / "cache")
        yield tmp_path / "hub"


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listens at the hub's address."""
    ask(monkeypatch, "http://127.0.0.1:9", tmp_path / "cache")


def _store(folder: Path, name: str = "model.safetensors") -> ImageTower:
    tower = build_image_tower(TOWER.replaced(pretrained=False, image_size=None))
    folder.mkdir(parents=True)
    save_file(timm.create_model("test_vit", num_classes=7).state_dict() | tower.transformer.state_dict(), folder / name)
    return tower


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize(
    "ask_for",
    [lambda config: MPFGVC.from_config(config, ["crow", "owl"]), lambda config: fetch(hub_files(config))],
    ids=["training", "download"],
)
def test_without_a_network_both_files_are_named_within_seconds(ask_for: Callable[[ModelConfig], object]) -> None:
    began = time.monotonic()
    with pytest.raises(CheckpointError) as refusal:
        ask_for(ModelConfig())
    assert time.monotonic() - began < 8, "the hub's own client takes 24 seconds for each file"
    line = str(refusal.value)
    assert line.startswith(
        "cannot fetch timm/vit_base_patch16_224.augreg_in21k/model.safetensors (410 MB) and "
        "timm/vit_base_patch16_clip_224.openai/open_clip_model.safetensors (598 MB) from the hub: "
    )
    for way_out in ("mpfgvc download", "--config vit_tiny", "--base vit_tiny", "model.image_tower.weights"):
        assert way_out in line
    assert "\n" not in line


def test_a_download_serves_a_later_training_without_a_network(
    hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = _store(hub / "timm" / "test_vit.r160_in1k")
    settings = ["--model.image_tower.name", str(TOWER.name), "--model.text_tower.pretrained", "null"]
    assert main(["download", "folder", *settings, "--json"]) == 0
    (file,) = json.loads(capsys.readouterr().out)
    assert (file["repository"], file["file"]) == ("timm/test_vit.r160_in1k", "model.safetensors")
    assert Path(file["path"]).stat().st_size == file["bytes"]
    ask(monkeypatch, "http://127.0.0.1:9", tmp_path / "cache")
    tower = build_image_tower(TOWER)
    assert torch.equal(tower.transformer.cls_token, stored.transformer.cls_token)
    assert main(["download", "synthetic"]) == 0
    assert capsys.readouterr().out == "synthetic needs nothing from the hub\n"


def test_a_repository_is_taken_by_its_own_name(hub: Path) -> None:
    stored = _store(hub / "me" / "tower")
    (hub / "me" / "tower" / "config.json").write_text(json.dumps(SETTINGS))
    tower = build_image_tower(TOWER.replaced(name="hf-hub:me/tower"))
    assert torch.equal(tower.transformer.cls_token, stored.transformer.cls_token)


@pytest.mark.parametrize("name", ["test_vit.r160_in1k", "hf-hub:me/tower", "local-dir:"])
def test_a_pickle_is_never_opened(hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for folder in (hub / "timm" / "test_vit.r160_in1k", hub / "me" / "tower", tmp_path / "local"):
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(SETTINGS))
        torch.save(timm.create_model("test_vit").state_dict(), folder / "pytorch_model.bin")
    monkeypatch.setattr(torch, "load", None)
    name = f"{name}{tmp_path / 'local'}" if name == "local-dir:" else name
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        build_image_tower(TOWER.replaced(name=name))


def test_a_text_tower_without_safetensors_is_refused(hub: Path) -> None:
    folder = hub / "timm" / "vit_base_patch16_clip_224.openai"
    folder.mkdir(parents=True)
    (folder / "open_clip_pytorch_model.bin").write_bytes(b"")
    config = ModelConfig(image_tower=TOWER.replaced(pretrained=False), text_tower=TextTowerConfig())
    with pytest.raises(CheckpointError, match=r"has no open_clip_model\.safetensors; .*, as they may be pickles"):
        MPFGVC.from_config(config, ["crow", "owl"])
