"""Learnable class prompts: how they start, whom they belong to, and what they refuse."""

from typing import Any

import pytest
import torch

from mpfgvc.config import ModelConfig
from mpfgvc.errors import ConfigError
from mpfgvc.model.prompts import ClassPrompts, prompt_endings
from mpfgvc.model.towers.text_tower import TextTower


def test_the_context_starts_as_normal_noise_of_two_hundredths(tiny_text_tower: TextTower) -> None:
    context = _prompts(tiny_text_tower, classes=80, context_tokens=7).context
    assert context.shape == (80, 7, 24)
    assert context.requires_grad
    values = context.detach().flatten()
    assert values.std().item() == pytest.approx(0.02, rel=0.03)
    assert abs(values.mean().item()) < 0.001


def test_every_class_has_a_context_of_its_own(tiny_text_tower: TextTower) -> None:
    prompts = _prompts(tiny_text_tower, classes=5)
    features = prompts()
    assert features.shape == (5, 20)
    assert torch.cdist(features, features).add(torch.eye(5)).min() > 1e-4
    (gradient,) = torch.autograd.grad(features[3].sum(), prompts.context)
    assert gradient[3].abs().sum() > 0
    assert not gradient[[0, 1, 2, 4]].any()


def test_the_context_can_start_from_words(tiny_text_tower: TextTower) -> None:
    prompts = _prompts(tiny_text_tower, context_tokens=4, context_init="a photo of the")
    table = tiny_text_tower.transformer.token_embedding.weight
    expected = table[torch.tensor(tiny_text_tower.token_ids("a photo of the"))]
    assert prompts.context.shape == (3, 4, 24)
    for context in prompts.context:
        torch.testing.assert_close(context.detach(), expected, atol=0, rtol=0)
    with torch.no_grad():
        prompts.context[0] += 1
    assert not torch.equal(prompts.context[0], prompts.context[1]), "one tensor for each class"


def test_words_of_another_number_of_tokens_are_refused(tiny_text_tower: TextTower) -> None:
    with pytest.raises(ConfigError) as refusal:
        _prompts(tiny_text_tower, context_tokens=4, context_init="a photo")
    rule = "model.context_init must give model.context_tokens = 4 tokens, got 2 from 'a photo'"
    assert str(refusal.value) == rule


def test_the_longest_prompt_that_fits_is_taken_and_one_more_token_refused(tiny_text_tower: TextTower) -> None:
    words = " ".join(["bird"] * 71)
    features = _prompts(tiny_text_tower, endings=["bird", words], context_tokens=4)()
    assert features.shape == (2, 20)
    with pytest.raises(ConfigError, match=r"model\.context_tokens must leave room for 'bird bird.* 77 tokens"):
        _prompts(tiny_text_tower, endings=["bird", words], context_tokens=5)


def test_only_the_context_is_trained_and_only_it_and_the_tower_are_stored(tiny_text_tower: TextTower) -> None:
    prompts = _prompts(tiny_text_tower)
    trained = [name for name, parameter in prompts.named_parameters() if parameter.requires_grad]
    assert trained == ["context"]
    own = [name for name in prompts.state_dict() if not name.startswith("tower.")]
    assert own == ["context"]


def test_prompts_run_at_the_length_they_have(tiny_text_tower: TextTower) -> None:
    """Start, 6 learnable tokens, two of "sports car", end: 10 positions, not 77."""
    lengths: list[int] = []
    first_block = tiny_text_tower.transformer.transformer.resblocks[0]
    handle = first_block.register_forward_pre_hook(lambda _, inputs: lengths.append(inputs[0].shape[1]))
    _prompts(tiny_text_tower, endings=["bird", "sports car"], context_tokens=6)()
    handle.remove()
    assert lengths == [10]


def test_chunks_change_neither_features_nor_gradients(tiny_text_tower: TextTower) -> None:
    whole, chunked = (_prompts(tiny_text_tower, classes=7, chunk=chunk) for chunk in (256, 3))
    direction = torch.randn(7, 20)
    for prompts in (whole, chunked):
        (prompts() * direction).sum().backward()
    torch.testing.assert_close(chunked(), whole(), atol=1e-5, rtol=0)
    assert whole.context.grad is not None
    assert chunked.context.grad is not None
    difference = (chunked.context.grad - whole.context.grad).norm() / whole.context.grad.norm()
    assert difference < 1e-4


def test_some_classes_are_those_rows_of_all(tiny_text_tower: TextTower) -> None:
    prompts = _prompts(tiny_text_tower, endings=["crow", "rock wren", "owl", "sea bird"])
    some = torch.tensor([3, 1])
    torch.testing.assert_close(prompts(some), prompts()[some], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("ending", "expected"),
    [
        ("supercategory", ["sea bird", "sea bird"]),
        ("class", ["crow", "rock wren"]),
        ("class_supercategory", ["crow sea bird", "rock wren sea bird"]),
    ],
)
def test_a_prompt_ends_with_supercategory_class_or_both(ending: Any, expected: list[str]) -> None:
    config = ModelConfig(supercategory="sea bird", prompt_ending=ending)
    assert prompt_endings(config, ["crow", "rock wren"]) == expected
    assert prompt_endings(ModelConfig(), ["crow", "wren"]) == ["object"] * 2


def _prompts(
    tower: TextTower,
    *,
    classes: int = 3,
    endings: list[str] | None = None,
    context_tokens: int = 6,
    context_init: str | None = None,
    seed: int = 0,
    chunk: int = 256,
) -> ClassPrompts:
    return ClassPrompts(
        tower=tower,
        endings=["bird"] * classes if endings is None else endings,
        context_tokens=context_tokens,
        context_init=context_init,
        seed=seed,
        chunk=chunk,
    )
