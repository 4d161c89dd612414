"""The peers: what they may take, what is kept of them, and timm's recipe on a tiny tower."""

import json
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import timm
from PIL import Image
from safetensors.torch import save_file

import common
from common import settings_of
from mpfgvc import Config
from mpfgvc.data.catalog import read_photos
from mpfgvc.distributed import start_fabric
from peers import timm_recipe
from peers.protocol import RIGHT_FILE, Outcome, Task, epochs_within, order_of, run_peer

TRAINED, HELD_OUT, CLASSES = 5, 2, 3


@pytest.fixture
def overrides(tmp_path: Path) -> dict[str, object]:
    """Settings of a few photographs of one color per class and a small random tower of timm's."""
    for label, color in enumerate(("red", "green", "blue")):
        for number in range(TRAINED + HELD_OUT):
            file = tmp_path / "photos" / ("train" if number < TRAINED else "test") / color / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.zeros((50, 40, 3), np.uint8)
            pixels[..., label] = 155 + 20 * (number % 5)
            Image.fromarray(pixels).save(file)
    save_file(timm.create_model("test_vit", pretrained=False).state_dict(), tmp_path / "tower.safetensors")
    return {
        "data.root": str(tmp_path / "photos"),
        "data.workers": 0,
        "device": "cpu",
        "model.image_tower.name": "test_vit",
        "model.image_tower.image_size": 160,
        "model.image_tower.weights": str(tmp_path / "tower.safetensors"),
        "stage1.batch_size": 6,
    }


def options(tmp_path: Path, **changed: object) -> Namespace:
    terms = {"config": "vit_tiny", "name": "colors", "seeds": [0], "work": tmp_path / "work"}
    return Namespace(**terms | {"minutes": 0.5, "validate": 0.0, "lr": None} | changed)


def task_of(config: Config, *, lr: float | None = None) -> Task:
    fabric = start_fabric(config.device, config.precision)
    photos = read_photos(config.data, seed=config.seed)
    return Task(config=config, photos=photos, fabric=fabric, minutes=1, lr=lr)


def test_a_budget_is_filled_with_whole_epochs_and_at_least_one() -> None:
    assert epochs_within(2, epoch_seconds=50) == 2
    assert epochs_within(2, epoch_seconds=50, first_seconds=30) == 1
    assert epochs_within(0.1, epoch_seconds=50) == 1


def test_a_result_tells_which_photographs_were_right(
    tmp_path: Path, overrides: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(common, "RESULTS", tmp_path)

    def always_second(task: Task) -> Outcome:
        return Outcome(epochs=4, training_minutes=0.25, guesses=[1] * len(task.scored))

    run_peer("none", always_second, options(tmp_path), overrides, packages=("pytest",))
    document = json.loads((tmp_path / "peers_none_colors.json").read_text())
    test = read_photos(settings_of("vit_tiny", overrides).data, seed=0).subset("test")
    assert document["right"]["0"] == "".join("01"[sample.label == 1] for sample in test)
    assert document["order"]["0"] == order_of(test)
    assert document["summary"]["top1"]["mean"] == pytest.approx(1 / CLASSES)
    assert document["environment"]["packages"]["pytest"] == pytest.__version__
    assert (document["minutes"], document["scores"][0]["epochs"]) == (0.5, 4)


def test_while_settings_are_chosen_only_held_out_training_photographs_are_scored(
    tmp_path: Path, overrides: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(common, "RESULTS", tmp_path)
    scored = []

    def remember(task: Task) -> Outcome:
        assert not set(task.training) & set(task.scored)
        scored.extend(task.scored)
        return Outcome(epochs=1, training_minutes=0.1, guesses=[0] * len(task.scored))

    run_peer("none", remember, options(tmp_path, validate=0.4), overrides)
    assert {sample.split for sample in scored} == {"validation"}
    assert all("train" in sample.path.parts for sample in scored)


def test_a_finished_seed_is_kept_and_another_budget_or_rate_is_measured_anew(
    tmp_path: Path, overrides: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(common, "RESULTS", tmp_path)
    budgets = []

    def peer(task: Task) -> Outcome:
        budgets.append(task.minutes)
        return Outcome(epochs=1, training_minutes=0.1, guesses=[0] * len(task.scored))

    for minutes, lr in ((0.5, None), (0.5, None), (0.75, None), (0.75, 0.001), (0.75, 0.002)):
        run_peer("none", peer, options(tmp_path, minutes=minutes, lr=lr), overrides)
    assert budgets == [0.5, 0.75, 0.75, 0.75]
    assert len(list((tmp_path / "work").glob(f"*/{RIGHT_FILE}"))) == 4


@pytest.mark.parametrize("setting", ["model.image_tower.weights", "model.image_tower.image_size"])
def test_a_peer_whose_tower_could_be_another_is_refused(setting: str, overrides: dict[str, object]) -> None:
    config = settings_of("vit_tiny", overrides | {setting: None})
    with pytest.raises(SystemExit, match=setting):
        _ = task_of(config).tower


@pytest.mark.slow("30 epochs of a tiny tower, in two recipes")
@pytest.mark.parametrize("name", timm_recipe.RECIPES)
def test_timms_recipe_starts_from_the_file_and_learns_colors(
    name: str, overrides: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timm_recipe, "epochs_within", lambda minutes, epoch_seconds: 30)
    monkeypatch.setattr(timm_recipe, "RAND_AUGMENT", None)  # it changes colors
    task = task_of(settings_of("vit_tiny", overrides), lr=3e-3)
    start = timm_recipe.Training(task, timm_recipe.RECIPES[name]).model.state_dict()
    plain = timm.create_model("test_vit", num_classes=0, **task.tower).state_dict()
    assert all(start[key].equal(value) for key, value in plain.items())
    outcome = timm_recipe.fine_tune(task, recipe=timm_recipe.RECIPES[name])
    assert outcome.epochs == 30
    right = [guess == sample.label for guess, sample in zip(outcome.guesses, task.scored, strict=True)]
    assert sum(right) > len(right) / 2
