"""The whole network: shapes, seeds, its three sources of logits, and its deployed form."""

import pytest
import torch
from torch import Tensor, nn

from mpfgvc.config import ImageTowerConfig, ModelConfig, TextTowerConfig
from mpfgvc.errors import CheckpointError, ConfigError, MpfgvcError
from mpfgvc.model.network import MPFGVC, check_settings
from mpfgvc.terms import Source

CLASSES = ["crow", "rock wren", "barn owl", "blue jay", "red kite"]


@pytest.fixture(scope="module")
def network(model_config: ModelConfig) -> MPFGVC:
    return MPFGVC.from_config(model_config, CLASSES, seed=1).eval()


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(2, 3, 48, 80, generator=torch.Generator().manual_seed(0))


def test_the_prediction_is_the_fusion_classifier(network: MPFGVC, images: Tensor) -> None:
    output = network(images)
    assert output.logits is output.fusion
    torch.testing.assert_close(output.fusion, network.fusion(output.embedding, network.text()))
    assert not torch.equal(output.fusion, output.vision)


@pytest.mark.parametrize("source", ["vision", "text"])
def test_another_source_can_be_the_prediction_before_and_after_deployment(
    model_config: ModelConfig, images: Tensor, source: Source
) -> None:
    config = model_config.replaced(prediction=source)
    network = MPFGVC.from_config(config, ["a", "b", "c"]).eval()
    for each in (network, network.deployed(), MPFGVC.deployed_from_config(config, ["a", "b"], embed=20)):
        output = each(images)
        assert output.logits is getattr(output, source)


def test_text_logits_are_cosines_over_the_temperature(network: MPFGVC, images: Tensor) -> None:
    output, text_features = network(images), network.text()
    assert isinstance(network.projection, nn.Linear), "64 wide images, 20 wide text"
    for image in range(2):
        projected = network.projection.weight @ output.embedding[image]
        for index in range(5):
            dot = (projected * text_features[index]).sum()
            cosine = dot / (projected.square().sum().sqrt() * text_features[index].square().sum().sqrt())
            torch.testing.assert_close(output.text[image, index], cosine / 0.07, atol=1e-5, rtol=0)


def test_the_same_seed_gives_the_same_weights(model_config: ModelConfig, network: MPFGVC) -> None:
    same = MPFGVC.from_config(model_config, CLASSES, seed=1).state_dict()
    other = MPFGVC.from_config(model_config, CLASSES, seed=2).state_dict()
    state = network.state_dict()
    assert state.keys() == same.keys()
    assert all(torch.equal(state[name], same[name]) for name in state)
    for name in ("text.context", "classifier.weight", "projection.weight", "fusion.key.weight"):
        assert not torch.equal(state[name], other[name]), name


def test_neither_building_nor_deploying_touches_the_global_random_state(
    model_config: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    reseeded: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", reseeded.append)
    before = torch.get_rng_state()
    MPFGVC.from_config(model_config, CLASSES, seed=3).deployed()
    MPFGVC.deployed_from_config(model_config, CLASSES, embed=20)
    assert torch.equal(torch.get_rng_state(), before)
    assert not reseeded, "the accelerators' state, too"


def test_a_deployed_network_agrees_and_holds_no_text_tower(network: MPFGVC, images: Tensor) -> None:
    deployed = network.deployed()
    with torch.no_grad():
        expected, output = network(images), deployed(images)
    for source in ("vision", "text", "fusion"):
        torch.testing.assert_close(getattr(output, source), getattr(expected, source), atol=1e-6, rtol=0)
    assert torch.equal(output.kept, expected.kept)
    names = [name for name in deployed.state_dict() if name.startswith("text.")]
    assert names == ["text.features"]
    text_tower = {id(parameter) for parameter in network.text.parameters()}
    assert not text_tower & {id(parameter) for parameter in deployed.parameters()}
    assert deployed.classes == tuple(CLASSES)
    assert deployed.deployed() is deployed


def test_a_deployed_network_is_built_again_from_its_config(
    model_config: ModelConfig, network: MPFGVC, images: Tensor
) -> None:
    never_loaded = TextTowerConfig(weights="/no/such/file")
    config = model_config.replaced(text_tower=never_loaded)
    again = MPFGVC.deployed_from_config(config, CLASSES, embed=20).eval()
    again.load_state_dict(network.deployed().state_dict(), strict=True)
    with torch.no_grad():
        torch.testing.assert_close(again(images).logits, network(images).logits, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("settings", "kind", "message"),
    [
        ({"kept_tokens": 197}, ConfigError, r"kept_tokens must be at most 196 .*, got 197"),
        ({"context_tokens": 64, "supercategory": "a b c d e f g h i j k l m"}, ConfigError, "context_tokens"),
        ({"image_tower": ImageTowerConfig(name="vit_bass_patch16_224")}, ConfigError, "image_tower.name"),
        ({"image_tower": ImageTowerConfig(weights="gone.safetensors")}, CheckpointError, "gone.safetensors"),
        ({"text_tower": TextTowerConfig(name="ViT-B-61")}, ConfigError, "text_tower.name"),
        ({"text_tower": TextTowerConfig(pretrained="closedai")}, ConfigError, "text_tower.pretrained"),
        ({"text_tower": TextTowerConfig(weights="gone.safetensors")}, CheckpointError, "gone.safetensors"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_anything_is_fetched(
    settings: dict[str, object], kind: type[MpfgvcError], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.socket.connect", None)
    with pytest.raises(kind, match=message):
        check_settings(ModelConfig(**settings), CLASSES)  # type: ignore[arg-type]


def test_settings_that_can_work_pass_the_check_without_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.socket.connect", None)
    check_settings(ModelConfig(kept_tokens=196), CLASSES)
