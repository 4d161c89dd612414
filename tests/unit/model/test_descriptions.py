"""Sentences about classes, read by a text tower, and what they add to the class prompts."""

import pytest
import torch
import torch.nn.functional as F

from mpfgvc.config import ModelConfig
from mpfgvc.errors import ConfigError
from mpfgvc.model.network import MPFGVC, check_settings
from mpfgvc.model.prompts import ClassPrompts, class_descriptions, division_notes, readable_parts
from mpfgvc.model.towers.text_tower import TextTower

SENTENCES = (("a thin beak", "a white belly"), (), ("a pale face", "dark eyes", "a white belly"))
"""Of three classes; the second has none, and two share a sentence."""


def test_a_class_feature_is_the_mean_of_its_normalised_sentences(tiny_text_tower: TextTower) -> None:
    described = class_descriptions(tiny_text_tower, SENTENCES)
    assert described.shape == (3, 20)
    assert not described.requires_grad
    for row in (0, 2):
        features = [F.normalize(tiny_text_tower.encode([each])[0], dim=0) for each in SENTENCES[row]]
        torch.testing.assert_close(described[row], torch.stack(features).mean(dim=0), atol=1e-6, rtol=0)
    assert not described[1].any()


@pytest.mark.parametrize(
    ("sentence", "ends"),
    [
        (" ".join(["red wings and a tail."] * 30), "."),
        (" ".join(["red wings and a long tail,"] * 30), ","),
        (" ".join(["wing"] * 200), "g"),
        ("One. " + " ".join(["wing"] * 90) + ", " + " ".join(["tail"] * 40) + "! Two.", "lg.!,"),
    ],
    ids=["sentence ends", "commas", "words", "all of them"],
)
def test_a_long_sentence_is_divided_at_the_best_place_and_nothing_is_lost(
    tiny_text_tower: TextTower, sentence: str, ends: str
) -> None:
    fits = "a bird. " + " ".join(["word,"] * 35)
    assert readable_parts(tiny_text_tower, fits) == [fits]
    parts = readable_parts(tiny_text_tower, sentence)
    assert len(parts) > 1
    assert " ".join(parts) == sentence
    assert all(len(tiny_text_tower.token_ids(part)) <= 75 for part in parts)
    assert all(part[-1] in ends for part in parts)
    short = [part for part in parts[:-1] if len(tiny_text_tower.token_ids(part)) < 60]
    assert len(short) <= sentence.startswith("One.") * 3, "parts are as long as they can be"


def test_every_part_of_a_long_sentence_is_read(tiny_text_tower: TextTower) -> None:
    sentence = " ".join(["red wings and a tail."] * 30)
    parts = readable_parts(tiny_text_tower, sentence)
    long, short = class_descriptions(tiny_text_tower, [[sentence], parts])
    torch.testing.assert_close(long, short, atol=1e-6, rtol=0)
    (note,) = division_notes(tiny_text_tower, [["short"], [sentence]])
    assert note.startswith("descriptions longer than the 77 tokens of the text tower, read in parts: 1 of 2 ")
    assert division_notes(tiny_text_tower, SENTENCES) == ()


def test_the_prompt_adds_what_the_sentences_do_not_say(tiny_text_tower: TextTower) -> None:
    plain, described = (_prompts(tiny_text_tower, described=described) for described in (False, True))
    given = class_descriptions(tiny_text_tower, SENTENCES)
    weights = torch.tensor([[0.4], [1.0], [0.4]])
    expected = weights * F.normalize(plain(), dim=-1) + given
    torch.testing.assert_close(described(), expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(described(torch.tensor([2, 1])), expected[[2, 1]], atol=1e-6, rtol=0)


def test_gradients_reach_the_tokens_of_every_class(tiny_text_tower: TextTower) -> None:
    prompts = _prompts(tiny_text_tower, described=True)
    F.normalize(prompts(), dim=-1)[:, 3].sum().backward()
    assert prompts.context.grad is not None
    assert all(gradient.abs().sum() > 0 for gradient in prompts.context.grad)


def test_a_network_with_descriptions_is_deployed_with_them(model_config: ModelConfig) -> None:
    config = model_config.replaced(descriptions="words.csv")
    network = MPFGVC.from_config(config, ["wren", "kiwi", "owl"], sentences=SENTENCES, seed=1)
    other = MPFGVC.from_config(model_config, ["wren", "kiwi", "owl"], seed=1)
    deployed = network.deployed()
    assert torch.equal(deployed.text(), network.text())
    assert (deployed.text() - other.text()).abs().max() > 0.01


def test_a_network_that_is_given_no_sentences_is_refused(model_config: ModelConfig) -> None:
    config = model_config.replaced(descriptions="words.csv")
    for build in (MPFGVC.from_config, check_settings):
        with pytest.raises(ConfigError, match=r"model\.descriptions is words\.csv, but no sentences came"):
            build(config, ["wren", "owl"])


def test_settings_are_checked_with_the_sentences(model_config: ModelConfig) -> None:
    config = model_config.replaced(descriptions="words.csv")
    assert check_settings(config, ["wren", "kiwi", "owl"], SENTENCES) == ()
    (note,) = check_settings(config, ["wren", "owl"], [["wing " * 99], ["pale"]])
    assert "1 of 2" in note
    with pytest.raises(ConfigError, match=r"^model\.descriptions must hold words of at most 75 tokens, got 1234"):
        check_settings(config, ["wren", "owl"], [["1234567890" * 20], []])


def _prompts(tower: TextTower, *, described: bool) -> ClassPrompts:
    return ClassPrompts(
        tower=tower,
        endings=["bird"] * 3,
        context_tokens=6,
        descriptions=class_descriptions(tower, SENTENCES) if described else None,
        prompt_weight=0.4,
        seed=3,
    )
