"""Class prompts against open_clip's own `encode_text`, at the library's full context length.

With the learnable tokens set to the embeddings of real words a prompt is a sentence, and the
library must say the same about it. The gradient is compared through the library's whole
computation, too: a hook puts a leaf where the words' embeddings stand.
"""

from collections.abc import Callable
from typing import Any

import open_clip
import pytest
import torch
from torch import Tensor

from mpfgvc.config import ModelConfig, TextTowerConfig
from mpfgvc.model.prompts import ClassPrompts, class_descriptions, prompt_endings
from mpfgvc.model.towers import text_tower
from mpfgvc.model.towers.text_tower import TextTower, build_text_tower

ODD_TOWER: dict[str, Any] = {
    "embed_dim": 20,
    "quick_gelu": True,
    "text_cfg": {
        "width": 24,
        "heads": 3,
        "layers": 5,
        "context_length": 33,
        "ls_init_value": 0.5,
        "proj_bias": True,
        "qk_norm": True,
        "norm_kwargs": {"eps": 1e-3},
    },
}
"""Quick GELU, LayerScale, norms of queries and keys, a projection with bias, and another length."""

CLASSES = ["a red", "the small", "one very"]
"""Two words, that is two tokens, for each class."""


@pytest.fixture(scope="module", params=["ViT-B-16", "odd"])
def towers(request: pytest.FixtureRequest) -> tuple[TextTower, Any]:
    """Our tower and a whole open_clip CLIP with the same random text weights."""
    name = request.param
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(text_tower.TEXT_TOWERS, "odd", ODD_TOWER)
        tower = build_text_tower(TextTowerConfig(name=name, pretrained=None), seed=5)
    _randomise(tower)
    settings = ODD_TOWER if name == "odd" else open_clip.get_model_config(name)
    clip = open_clip.CLIP(
        settings["embed_dim"],
        {"layers": 1, "width": 64, "image_size": 32, "patch_size": 16},
        settings["text_cfg"],
        quick_gelu=settings.get("quick_gelu", False),
    )
    missing, unexpected = clip.load_state_dict(tower.transformer.state_dict(), strict=False)
    assert not unexpected
    assert all(name.startswith(("visual.", "logit_scale")) for name in missing)
    return tower, clip.eval().requires_grad_(False)


@pytest.mark.parametrize("ending", ["bird", "sports car", "pain au chocolat"])
def test_a_prompt_of_real_words_equals_encode_text(towers: tuple[TextTower, Any], ending: str) -> None:
    tower, clip = towers
    prompts = _worded_prompts(tower, endings=[ending] * 3)
    with torch.no_grad():
        features = prompts()
        expected = clip.encode_text(_tokens(tower, [f"{words} {ending}" for words in CLASSES]))
    _assert_close(features, expected)


def test_endings_of_different_lengths_equal_their_own_sentences(towers: tuple[TextTower, Any]) -> None:
    tower, clip = towers
    names = ["crow", "red-winged blackbird", "chuck-will's-widow"]
    config = ModelConfig(prompt_ending="class")
    endings = prompt_endings(config, names)
    assert len({len(tower.token_ids(ending)) for ending in endings}) == 3
    with torch.no_grad():
        features = _worded_prompts(tower, endings=endings)()
        sentences = [f"{words} {name}" for words, name in zip(CLASSES, names, strict=True)]
        expected = clip.encode_text(_tokens(tower, sentences))
    _assert_close(features, expected)


def test_descriptions_equal_encode_text_of_their_sentences_put_together(towers: tuple[TextTower, Any]) -> None:
    tower, clip = towers
    sentences = [["a thin beak", "a very long and white tail"], ["dark eyes"], []]
    with torch.no_grad():
        prompts = ClassPrompts(
            tower=tower,
            endings=["sports car"] * 3,
            context_tokens=2,
            descriptions=class_descriptions(tower, sentences),
            prompt_weight=0.3,
        )
        features = _say_words(prompts)()
        expected = []
        for words, each in zip(CLASSES, sentences, strict=True):
            prompt, *described = clip.encode_text(_tokens(tower, [f"{words} sports car", *each]))
            expected.append((0.3 if described else 1) * prompt / prompt.norm())
            for feature in described:
                expected[-1] += feature / feature.norm() / len(described)
    torch.testing.assert_close(features, torch.stack(expected), atol=1e-5, rtol=0)


def test_the_gradient_of_the_context_equals_that_of_the_full_length(towers: tuple[TextTower, Any]) -> None:
    tower, clip = towers
    prompts = _worded_prompts(tower, endings=["sports car"] * 3)
    features = prompts()
    direction = torch.randn(features.shape, generator=torch.Generator().manual_seed(2))
    (gradient,) = torch.autograd.grad((direction * features).sum(), prompts.context)

    leaf = prompts.context.detach().clone().requires_grad_()
    handle = clip.token_embedding.register_forward_hook(_put_behind_the_start(leaf))
    expected_features = clip.encode_text(_tokens(tower, [f"{words} sports car" for words in CLASSES]))
    handle.remove()
    (expected,) = torch.autograd.grad((direction * expected_features).sum(), leaf)
    assert expected.norm() > 0.1
    assert (gradient - expected).norm() <= 1e-4 * expected.norm()


def test_another_towers_own_forward_agrees_at_its_own_context_length() -> None:
    """Every open_clip configuration of another family, cut to two layers."""
    for name in ["ViT-L-14", "EVA02-B-16", "PE-Core-T-16-384", "ViT-B-32-quickgelu"]:
        settings = open_clip.get_model_config(name)
        settings["text_cfg"] |= {"layers": 2, "width": 24, "heads": 3}
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(text_tower.TEXT_TOWERS, "cut", settings)
            tower = build_text_tower(TextTowerConfig(name="cut", pretrained=None), seed=6)
        _randomise(tower)
        with torch.no_grad():
            features = _worded_prompts(tower, endings=["sports car"] * 3)()
            tokens = _tokens(tower, [f"{words} sports car" for words in CLASSES])
            _assert_close(features, tower.transformer(tokens))


def _randomise(tower: TextTower) -> None:
    """Norms, biases and scales away from one and zero."""
    generator = torch.Generator().manual_seed(8)
    with torch.no_grad():
        for parameter in tower.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))


def _worded_prompts(tower: TextTower, *, endings: list[str]) -> ClassPrompts:
    return _say_words(ClassPrompts(tower=tower, endings=endings, context_tokens=2))


def _say_words(prompts: ClassPrompts) -> ClassPrompts:
    """Set the learnable tokens of each class to its words."""
    tower = prompts.tower
    ids = [tower.token_ids(words) for words in CLASSES]
    with torch.no_grad():
        prompts.context.copy_(tower.transformer.token_embedding.weight[torch.tensor(ids)])
    return prompts


def _tokens(tower: TextTower, sentences: list[str]) -> Tensor:
    length = tower.transformer.context_length
    tokens: Tensor = open_clip.SimpleTokenizer(context_length=length)(sentences)
    assert tokens.shape == (len(sentences), length)
    return tokens


def _put_behind_the_start(leaf: Tensor) -> Callable[..., Tensor]:
    def hook(_: object, __: object, embeddings: Tensor) -> Tensor:
        count = leaf.shape[1]
        return torch.cat([embeddings[:, :1], leaf, embeddings[:, 1 + count :]], dim=1)

    return hook


def _assert_close(features: Tensor, expected: Tensor) -> None:
    """Within 1e-5 of the size of the features, which differ from class to class."""
    size = expected.abs().max().item()
    assert (expected[0] - expected[1]).abs().max() > 1e-2 * size
    torch.testing.assert_close(features, expected, atol=1e-5 * max(1.0, size), rtol=0)
