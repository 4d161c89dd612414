"""Datasets by name."""

from dataclasses import replace

import pytest

from mpfgvc.config import DataConfig
from mpfgvc.data.catalog import OFFICIAL, official_counts, read_photos
from mpfgvc.data.split import hold_out
from mpfgvc.errors import ConfigError, DataError


def test_validation_is_carved_out_of_training_alone(class_folders):
    photos = read_photos(DataConfig(root=str(class_folders), validation=0.25), seed=0)
    without = read_photos(DataConfig(root=str(class_folders), validation=0), seed=0)
    assert [len(photos.subset(split)) for split in ("train", "validation", "test")] == [15, 5, 5]
    assert [len(without.subset(split)) for split in ("train", "validation", "test")] == [20, 0, 5]
    assert list(photos.subset("test")) == list(without.subset("test"))


def test_a_validation_split_of_the_datasets_own_is_kept(tmp_path, draw):
    for split, count in {"train": 4, "val": 1}.items():
        for name in ("crow", "tern"):
            for index in range(count):
                draw(tmp_path / split / name / f"{index}.jpg")
    photos = read_photos(DataConfig(root=str(tmp_path), validation=0.5), seed=0)
    assert [len(photos.subset(split)) for split in ("train", "validation")] == [8, 2]


def test_classes_that_a_split_lacks_are_noted(class_folders, draw):
    draw(class_folders / "rare" / "0.jpg")
    draw(class_folders / "two" / "0.jpg", seed=1)
    draw(class_folders / "two" / "1.jpg", seed=2)
    photos = read_photos(DataConfig(root=str(class_folders)), seed=0)
    assert photos.notes[1:] == (
        "classes without a photograph for validation: 2 of 5 (rare, two)",
        "classes without a photograph for test: 1 of 5 (rare)",
    )


def test_classes_that_differ_only_in_capitals_are_noted(class_folders, draw):
    draw(class_folders / "Class 1" / "new.png", seed=999)
    photos = read_photos(DataConfig(root=str(class_folders)), seed=0)
    assert "classes that differ only in capitals: Class 1, class 1" in photos.notes


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({}, ConfigError, "data.root is not set; give the folder"),
        ({"dataset": "cub"}, ConfigError, "data.root is not set"),
        ({"dataset": "manifest"}, ConfigError, "data.manifest is not set"),
        ({"root": "/nowhere/birds"}, DataError, "data.root must be a folder, got /nowhere/birds, which does not"),
        ({"root": __file__}, DataError, "which is a file"),
    ],
)
def test_settings_that_lead_nowhere_are_refused(settings, error, message):
    with pytest.raises(error, match=message):
        read_photos(DataConfig(**settings), seed=0)


def test_a_dataset_of_one_class_is_refused(tmp_path, draw):
    draw(tmp_path / "a.jpg")
    (tmp_path / "photos.csv").write_text("path,label\na.jpg,crow\n")
    with pytest.raises(DataError, match="must have at least 2 classes, got 1"):
        read_photos(DataConfig(dataset="manifest", manifest=str(tmp_path / "photos.csv")), seed=0)


def test_a_dataset_is_complete_with_its_official_counts_only(metadata):
    photos = OFFICIAL["cub"].read(metadata / "CUB_200_2011", check_files=False)
    assert official_counts("cub", photos)
    assert official_counts("cub", replace(photos, samples=hold_out(photos.samples, 0.1, seed=0)))
    assert not official_counts("cub", replace(photos, samples=photos.samples[:-1]))
