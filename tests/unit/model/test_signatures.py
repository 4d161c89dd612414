"""The shapes in the signatures are true: beartype and jaxtyping compare them at every call.

The package itself checks nothing at run time, as that would break `torch.compile`.
"""

import inspect
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from beartype import beartype
from jaxtyping import TypeCheckError, jaxtyped

from mpfgvc.config import ModelConfig
from mpfgvc.model import losses, network

FOLDER = Path(network.__file__).parent
FILES = [file.relative_to(FOLDER).with_suffix("") for file in sorted(FOLDER.rglob("[!_]*.py"))]
MODULES = [import_module(".".join(["mpfgvc.model", *file.parts])) for file in FILES]


@pytest.mark.parametrize(
    "name", ["vit_small_patch14_reg4_dinov2", "eva02_tiny_patch14_224", "vit_small_patch16_rope_mixed_224"]
)
def test_the_shapes_of_the_image_encoder_are_true(
    name: str, encoder_of: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    _check_every_signature(monkeypatch)
    encoder, images = encoder_of(name)
    assert encoder(images).kept.shape == (2, 4)
    with pytest.raises(TypeCheckError):
        encoder(images[:, :2])


def test_the_shapes_of_the_network_and_its_losses_are_true(
    model_config: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    _check_every_signature(monkeypatch)
    whole = network.MPFGVC.from_config(model_config, ["crow", "rock wren", "owl"])
    images = torch.randn(2, 3, 48, 80)
    output = whole(images)
    assert whole.deployed()(images).logits.shape == (2, 3)
    objective = losses.Objective(0.1, losses.balanced_weights(torch.tensor([3, 0, 2])))
    losses.classification_loss(output.vision, torch.tensor([0, 2]), objective)
    with pytest.raises(TypeCheckError):
        whole.text_logits(output.embedding[0], whole.text())
    with pytest.raises(TypeCheckError):
        losses.classification_loss(output.text[:1], torch.tensor([0, 2]), objective)


def _check_every_signature(patch: pytest.MonkeyPatch) -> None:
    check = jaxtyped(typechecker=beartype)
    for module in MODULES:
        for name, function in _own_functions(module, "mpfgvc.model."):
            patch.setattr(module, name, check(function))
        for _, kind in inspect.getmembers(module, inspect.isclass):
            if kind.__module__ == module.__name__ and not issubclass(kind, tuple):
                for name, method in _own_functions(kind, module.__name__):
                    patch.setattr(kind, name, check(method))


def _own_functions(owner: ModuleType | type, prefix: str) -> list[tuple[str, Callable[..., Any]]]:
    functions = [(name, thing) for name, thing in vars(owner).items() if inspect.isfunction(thing)]
    return [(name, thing) for name, thing in functions if str(thing.__module__).startswith(prefix)]
