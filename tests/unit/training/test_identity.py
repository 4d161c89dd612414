"""Tests of the identity that a run's tensors carry."""

from dataclasses import replace

from mpfgvc.config import ImageTowerConfig, ModelConfig, TextTowerConfig
from mpfgvc.data.photo_list import ListedPhoto, PhotoList
from mpfgvc.model.network import MPFGVC
from mpfgvc.training.identity import Identity

TINY = ModelConfig(
    image_tower=ImageTowerConfig(name="test_vit", pretrained=False, image_size=[48, 64]),
    text_tower=TextTowerConfig(name="mpfgvc-small", pretrained=None),
    kept_tokens=3,
)


def test_photographs_of_equal_names_and_other_content_are_another_identity() -> None:
    network = MPFGVC.from_config(TINY, ["oak"])
    photo = ListedPhoto(path="oak/0001.jpg", label=0, split="train", digest="0" * 32)
    one = PhotoList(dataset="leaves", supercategory=None, classes=("oak",), photographs=(photo,))
    other = replace(one, photographs=(replace(photo, digest="1" * 32),))
    identity = Identity.of(network, one)
    assert identity == Identity.of(network, replace(one, dataset="moved"))
    assert identity.photographs != Identity.of(network, other).photographs
