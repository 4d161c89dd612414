"""The readers, the check and the loaders on real photographs of birds."""

from collections import Counter
from pathlib import Path

import pytest
import torch

from mpfgvc.config import AugmentConfig, DataConfig
from mpfgvc.data.catalog import read_photos
from mpfgvc.data.doctor import check, dataset_to_check
from mpfgvc.data.loading import TrainingLoader
from mpfgvc.data.preprocessing import Preprocessing
from mpfgvc.data.transforms import train_transform
from mpfgvc.errors import DataError

COPIES_SEEN = {
    ("Laysan_Albatross_0065_809", "Laysan_Albatross_0096_673", "copy"),
    ("Crested_Auklet_0057_794932", "Crested_Auklet_0059_794929", "mirrored and cropped"),
    ("Least_Auklet_0008_795071", "Least_Auklet_0063_795134", "cropped"),
    ("Bronzed_Cowbird_0025_796213", "Bronzed_Cowbird_0074_24045", "copy"),
    ("Black_Billed_Cuckoo_0043_795324", "Black_Billed_Cuckoo_0089_795322", "copy"),
}
"""Photographs of one picture, as the doctor finds them; looked at, one by one, on 2026-11-30."""


@pytest.fixture(scope="module")
def config(cub_subset):
    return DataConfig(dataset="cub", root=str(cub_subset), validation=0)


def test_the_subset_is_read_as_it_is_and_a_note_says_how_it_differs(config):
    photos = read_photos(config, seed=0)
    assert len(photos.classes) == 27
    assert [len(photos.subset(split)) for split in ("train", "test")] == [810, 739]
    assert set(Counter(sample.label for sample in photos.subset("train")).values()) == {30}
    assert photos.classes[26] == "Gray crowned Rosy Finch"
    assert photos.notes == (
        "a subset: 27 of the 200 classes, 810 of the 5994 training images, 739 of the 5794 test images of CUB-200-2011",
    )


def test_the_first_fifty_classes_are_read_as_they_are(cub_50):
    photos = read_photos(DataConfig(dataset="cub", root=str(cub_50), validation=0), seed=0)
    assert [len(photos.subset(split)) for split in ("train", "test")] == [1500, 1389]
    assert set(Counter(sample.label for sample in photos.subset("train")).values()) == {30}
    assert (len(photos.classes), photos.classes[49]) == (50, "Eared Grebe")


def test_every_photograph_of_the_subset_can_be_read_and_some_are_copies(config):
    report = check(dataset_to_check(config, seed=0))
    assert {each.kind for each in report.findings} == {"in two splits", "duplicate", "unusual shape", "note"}
    assert report.counts == {"train": 810, "validation": 0, "test": 739}
    groups = [each for each in report.findings if len(each.paths) > 1]
    copies = {(*sorted(Path(path).stem for path in each.paths), each.text.partition(";")[0]) for each in groups}
    assert copies == COPIES_SEEN


def test_class_folders_inside_an_official_layout_are_refused_with_its_name(cub_subset):
    with pytest.raises(DataError, match=r"looks like CUB-200-2011: set data\.dataset=cub"):
        read_photos(DataConfig(dataset="folder", root=str(cub_subset)), seed=0)


def test_real_photographs_become_normalised_batches(config):
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    preprocessing = Preprocessing(image_size=(64, 64), mean=mean, std=std)
    samples = read_photos(config, seed=0).subset("train")
    loader = TrainingLoader(samples, train_transform(preprocessing, AugmentConfig()), batch_size=32, seed=0)
    images, _ = next(loader.epoch(0))
    assert images.shape == (32, 3, 64, 64)
    assert torch.isfinite(images).all()
    assert images.mean().abs() < 0.7
    assert 0.5 < images.std() < 1.5
