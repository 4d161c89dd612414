"""The true index files of the official datasets give the official counts."""

import csv
import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from mpfgvc.config import DataConfig
from mpfgvc.data.catalog import OFFICIAL, official_counts, read_photos

FOLDERS = {"cub": "CUB_200_2011", "nabirds": "nabirds", "food101": "food-101", "flowers102": "flowers-102"}


def read(dataset, root):
    config = DataConfig(dataset=dataset, root=str(root), validation=0)
    return read_photos(config, seed=0, check_files=False)


@pytest.fixture(scope="module")
def photos(metadata):
    pytest.importorskip("scipy.io")
    return {dataset: read(dataset, metadata / folder) for dataset, folder in FOLDERS.items()}


@pytest.fixture(scope="module")
def dogs(metadata, tmp_path_factory):
    """Stanford Dogs as officially published, made from the same lists in another format."""
    io = pytest.importorskip("scipy.io")
    root = tmp_path_factory.mktemp("dogs")
    for source, target in {"train_val": "train_list", "test": "test_list"}.items():
        with (metadata / "stanford_dogs_index" / f"{source}.csv").open() as file:
            rows = list(csv.DictReader(file))
        cells = np.empty((len(rows), 1), dtype=object)
        cells[:, 0] = [row["dir"] for row in rows]
        labels = np.array([[int(row["class_id"]) + 1] for row in rows], dtype=np.uint8)
        io.savemat(root / f"{target}.mat", {"file_list": cells, "labels": labels})
    return read("dogs", root)


@pytest.mark.parametrize("dataset", FOLDERS)
def test_counts_are_the_official_ones_and_need_no_note(photos, dataset):
    official, read = OFFICIAL[dataset], photos[dataset]
    assert len(read.classes) == official.classes
    assert [len(read.subset(split)) for split in ("train", "test")] == [official.train, official.test]
    assert {sample.label for sample in read.samples} == set(range(official.classes))
    assert (read.notes, read.supercategory) == ((), official.supercategory)


@pytest.mark.parametrize("dataset", [name for name in FOLDERS if OFFICIAL[name].names is not None])
def test_names_are_the_official_ones_in_their_order(photos, dataset):
    read = photos[dataset]
    assert f"with the names and the order of classes of {OFFICIAL[dataset].title}" in official_counts(dataset, read)
    swapped = replace(read, classes=(*read.classes[1::-1], *read.classes[2:]))
    assert "other names or another order" in official_counts(dataset, swapped)


def test_counts_of_dogs_are_the_official_ones(dogs):
    assert (len(dogs.classes), len(dogs.subset("train")), len(dogs.subset("test"))) == (120, 12000, 8580)
    assert set(Counter(sample.label for sample in dogs.subset("train")).values()) == {100}
    assert dogs.notes == ()
    assert "with the names and the order" in official_counts("dogs", dogs)
    assert (dogs.classes[0], dogs.classes[-1]) == ("Chihuahua", "African hunting dog")
    assert dogs.samples[0].path.parts[-3:] == ("Images", "n02085620-Chihuahua", "n02085620_5927.jpg")


def test_first_entries_of_cub_are_as_published(photos):
    cub = photos["cub"]
    assert (cub.classes[0], cub.classes[199]) == ("Black footed Albatross", "Common Yellowthroat")
    assert [sample.split for sample in cub.samples[:3]] == ["test", "train", "test"]
    assert cub.samples[0].path.name == "Black_Footed_Albatross_0046_18.jpg"
    assert set(Counter(sample.label for sample in cub.subset("train")).values()) == {29, 30}


def test_leaves_of_nabirds_have_unique_names_that_keep_sex_and_plumage(photos):
    nabirds = photos["nabirds"]
    assert {"Common Eider (Adult male)", "Swainson's Hawk (Dark morph)"} <= set(nabirds.classes)
    first = nabirds.samples[0]
    assert first.path.parts[-2:] == ("0817", "0000139e21dc4d0cbfe14cae3c85c829.jpg")
    assert nabirds.classes[-1] == "Dark-eyed Junco (Red-backed/Gray-headed)"  # the largest id, 1010


def test_flowers_keep_their_own_validation_split_and_have_the_names_of_the_common_list(photos, metadata):
    flowers = photos["flowers102"]
    assert len(flowers.subset("validation")) == 1020
    assert (flowers.samples[0].path.name, flowers.samples[0].split) == ("image_00001.jpg", "test")
    names = json.loads((metadata / "flowers-102" / "cat_to_name.json").read_text())
    assert flowers.classes == tuple(names[str(number)] for number in range(1, 103))


def test_validation_photographs_come_from_training_alone(metadata):
    config = DataConfig(dataset="cub", root=str(metadata / FOLDERS["cub"]), validation=0.1)
    photos = read_photos(config, seed=0, check_files=False)
    assert len(photos.subset("test")) == 5794
    assert len(photos.subset("train")) + len(photos.subset("validation")) == 5994
    assert set(Counter(sample.label for sample in photos.subset("validation")).values()) == {3}
