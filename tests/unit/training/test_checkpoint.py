"""Tests of the identity that a run's tensors carry."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mpfgvc.config import ImageTowerConfig, ModelConfig, TextTowerConfig
from mpfgvc.data.samples import PhotoSet, Samples
from mpfgvc.errors import CheckpointError
from mpfgvc.model.network import MPFGVC
from mpfgvc.training.checkpoint import Identity

TINY = ModelConfig(
    image_tower=ImageTowerConfig(name="test_vit", pretrained=False, image_size=[48, 64]),
    text_tower=TextTowerConfig(name="mpfgvc-small", pretrained=None),
    kept_tokens=3,
)
IDENTITY = Identity(classes="1", photographs="2", image_tower="3", text_tower="4")


def test_photographs_of_equal_names_and_other_content_are_another_identity() -> None:
    network = MPFGVC.from_config(TINY, ["oak"])
    samples = Samples.of(None, [("oak/0001.jpg", 0, "train")])
    one = PhotoSet(name="leaves", classes=("oak",), samples=samples)
    other = replace(one, samples=replace(samples, digests=np.array(["1" * 32], "S32")))
    identity = Identity.of(network, one)
    assert identity == Identity.of(network, replace(one, name="moved"))
    assert identity.photographs != Identity.of(network, other).photographs


def test_other_descriptions_are_another_identity() -> None:
    network = MPFGVC.from_config(TINY, ["oak", "elm"])
    samples = Samples.of(None, [("a.jpg", 0, "train"), ("b.jpg", 1, "train")])
    photos = PhotoSet(name="leaves", classes=("oak", "elm"), samples=samples)
    none, one, moved = (
        Identity.of(network, photos, sentences) for sentences in ((), (("lobed", "dark"), ()), (("lobed",), ("dark",)))
    )
    for identity, stored in ((one, none), (one, moved), (none, one)):
        with pytest.raises(CheckpointError, match="a run with other descriptions than those found now"):
            identity.refuse_other(vars(stored), Path("checkpoint.pt"))


def test_what_differs_is_named() -> None:
    IDENTITY.refuse_other(vars(IDENTITY), Path("checkpoint.pt"))
    stored = vars(IDENTITY) | {"classes": "5", "image_tower": "6"}
    with pytest.raises(CheckpointError, match="a run with other classes, image tower than those found now"):
        IDENTITY.refuse_other(stored, Path("checkpoint.pt"))
