"""The bundled towers do what their card says, and fit into the package."""

import re
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import pretrain
from mpfgvc.birds.plumage import ATTRIBUTES
from mpfgvc.birds.species import benchmark_plumages, random_plumage
from mpfgvc.config import ImageTowerConfig, TextTowerConfig
from mpfgvc.model.image_encoder import ImageEncoder
from mpfgvc.model.towers.image_tower import build_image_tower
from mpfgvc.model.towers.names import BUNDLED, bundled_image_weights
from mpfgvc.model.towers.text_tower import TextTower, build_text_tower
from zero_shot import all_sentences, attribute_accuracy

CARD = Path(pretrain.__file__).with_name("CARD.md")
PICTURES = 800


@pytest.fixture(scope="module")
def text_tower() -> TextTower:
    return build_text_tower(TextTowerConfig(name="mpfgvc-birds", pretrained=BUNDLED))


def test_the_towers_know_each_attribute_as_well_as_the_card_says(text_tower: TextTower) -> None:
    rows = re.findall(r"^\| (\w+) \| \d+ \| ([\d.]+) \| ([\d.]+) \|$", CARD.read_text(), re.MULTILINE)
    card = {name: (float(chance) / 100, float(accuracy) / 100) for name, chance, accuracy in rows}
    assert set(card) == set(ATTRIBUTES)
    tower = build_image_tower(ImageTowerConfig(name="mpfgvc-birds"))
    measured = attribute_accuracy(ImageEncoder(tower=tower, kept_tokens=None).eval(), text_tower, PICTURES)
    for name, (chance, accuracy) in card.items():
        assert measured[name] == pytest.approx(accuracy, abs=0.06), name
        assert measured[name] > 1.2 * chance, name


def test_the_weights_take_less_than_12_megabytes() -> None:
    assert sum(file.stat().st_size for file in bundled_image_weights().parent.iterdir()) < 12e6


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
    forbidden = sorted(benchmark_plumages(), key=str)[:3]
    allowed = random_plumage(np.random.default_rng(1))
    series = iter([*forbidden, allowed])
    monkeypatch.setattr(pretrain, "random_plumage", lambda _: next(series))
    assert pretrain.unseen_by_benchmark(np.random.default_rng(0)) == allowed


def test_a_stopped_pretraining_continues_to_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(folder: str) -> dict[str, torch.Tensor]:
        options = Namespace(
            out=tmp_path / folder, steps=3, batch_size=4, lr=1e-3, warmup=1, workers=0, word_steps=1
        )
        monkeypatch.setattr(pretrain, "_parse", lambda: options)
        pretrain.main()
        state = torch.load(options.out / "checkpoint.pt", weights_only=True)
        assert state["step"] == 3
        return dict(state["towers"])

    monkeypatch.setattr(pretrain, "CHECKPOINT_STEPS", 2)
    whole = run("whole")
    saved = pretrain.save

    def save_and_stop(*arguments: object) -> None:
        saved(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(pretrain, "save", save_and_stop)
    with pytest.raises(KeyboardInterrupt):
        run("stopped")
    monkeypatch.setattr(pretrain, "save", saved)
    continued = run("stopped")
    assert all(whole[name].equal(continued[name]) for name in whole)
