"""The official layouts, in miniature."""

import sys
from pathlib import Path

import numpy as np
import pytest

from mpfgvc.config import DataConfig
from mpfgvc.data.catalog import read_photos
from mpfgvc.data.readers.official import read_cub, read_dogs, read_flowers102, read_food101, read_nabirds
from mpfgvc.data.run_photos import read_labelled_set
from mpfgvc.errors import DataError

io = pytest.importorskip("scipy.io")

CHIHUAHUA = "n02085620-Chihuahua/n02085620_1.jpg"
SPANIEL = "n02085782-Japanese_spaniel/n02085782_2.jpg"
FLOWERS = {"trnid": [2, 1], "valid": [4], "tstid": [5, 3]}
LABELS = [7, 3, 7, 3, 7]


def write(root: Path, **files: str) -> Path:
    root.mkdir(exist_ok=True)
    for name, text in files.items():
        (root / f"{name}.txt").write_text(text)
    return root


@pytest.fixture
def cub(tmp_path):
    return write(
        tmp_path / "cub",
        images="1 001.Black_footed_Albatross/a.jpg\n2 001.Black_footed_Albatross/b.jpg\n3 003.Auk/c.jpg\n",
        image_class_labels="1 1\n2 1\n3 3\n",
        train_test_split="1 1\n2 0\n3 1\n",
        classes="3 003.Auk\n1 001.Black_footed_Albatross\n2 002.Laysan_Albatross\n",
    )


@pytest.fixture
def food(tmp_path):
    write(tmp_path / "meta", classes="apple_pie\nwaffles\n", train="waffles/1\napple_pie/2\n", test="waffles/3\n")
    return tmp_path


def write_dogs(path: Path, files: list[str], labels: list[int]) -> None:
    """The lists as MATLAB writes them: columns, and texts in cells."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = np.empty((len(files), 1), dtype=object)
    cells[:, 0] = files
    io.savemat(path, {"file_list": cells, "labels": np.array([labels]).T})


@pytest.fixture
def dogs(tmp_path):
    write_dogs(tmp_path / "lists" / "train_list.mat", [CHIHUAHUA, SPANIEL], [3, 7])
    write_dogs(tmp_path / "lists" / "test_list.mat", [CHIHUAHUA.replace("_1", "_5")], [3])
    return tmp_path


def write_flowers(home: Path, labels: list[int] = LABELS, **splits: list[float]) -> Path:
    home.mkdir(exist_ok=True)
    io.savemat(home / "imagelabels.mat", {"labels": np.array([labels], dtype=np.uint8)})
    io.savemat(home / "setid.mat", {name: np.array([numbers]) for name, numbers in (FLOWERS | splits).items()})
    return home


@pytest.fixture
def flowers(tmp_path, draw):
    """Five pictures of two classes."""
    home = write_flowers(tmp_path / "flowers")
    for number in range(1, 6):
        draw(home / "jpg" / f"image_{number:05d}.jpg", seed=number)
    return home


def entries(photos):
    return [("/".join(sample.path.parts[-2:]), sample.label, sample.split) for sample in photos.samples]


def test_classes_in_use_have_dense_labels_and_readable_names(cub, food, dogs):
    photos = read_cub(cub, check_files=False)
    assert photos.classes == ("Black footed Albatross", "Auk")
    assert [(sample.label, sample.split) for sample in photos.samples] == [(0, "train"), (0, "test"), (1, "train")]
    assert photos.samples[2].path == cub / "images" / "003.Auk" / "c.jpg"
    photos = read_food101(food, check_files=False)
    assert photos.classes == ("apple pie", "waffles")
    assert entries(photos) == [
        ("waffles/1.jpg", 1, "train"),
        ("apple_pie/2.jpg", 0, "train"),
        ("waffles/3.jpg", 1, "test"),
    ]
    photos = read_dogs(dogs, check_files=False)
    assert photos.classes == ("Chihuahua", "Japanese spaniel")
    assert [(sample.label, sample.split) for sample in photos.samples] == [(0, "train"), (1, "train"), (0, "test")]
    assert photos.samples[0].path == dogs / "Images" / CHIHUAHUA
    for name in ("train_list.mat", "test_list.mat"):
        (dogs / "lists" / name).rename(dogs / name)
    assert list(read_dogs(dogs, check_files=False).samples) == list(photos.samples)


def test_sex_and_plumage_stay_in_the_names_of_nabirds(tmp_path):
    root = write(
        tmp_path / "nabirds",
        images="a-1 0900/a1.jpg\nb-2 0299/b2.jpg\n",
        image_class_labels="a-1 900\nb-2 299\n",
        train_test_split="a-1 1\nb-2 1\n",
        classes="0 Birds\n299 Swainson's Hawk (Dark morph )\n900 Wood Duck (Female/Eclipse male)\n",
    )
    photos = read_nabirds(root, check_files=False)
    assert photos.classes == ("Swainson's Hawk (Dark morph)", "Wood Duck (Female/Eclipse male)")
    assert [sample.label for sample in photos.samples] == [1, 0]


def test_flowers_have_their_own_validation_split_and_the_names_that_everybody_uses(flowers):
    photos = read_photos(DataConfig(dataset="flowers102", root=str(flowers), validation=0.5), seed=0)
    assert (photos.classes, photos.supercategory) == (("canterbury bells", "moon orchid"), "flower")
    assert entries(photos) == [
        (f"jpg/image_0000{number}.jpg", label, split)
        for number, label, split in zip(
            range(1, 6), (1, 0, 1, 0, 1), ("train", "train", "test", "validation", "test"), strict=True
        )
    ]
    assert photos.notes[0].startswith("a subset: 2 of the 102 classes, 2 of the 1020 training images, 2 of")


def test_the_folder_above_that_torchvision_makes_may_be_given(flowers):
    (flowers.parent / "data").mkdir()
    flowers.rename(flowers.parent / "data" / "flowers-102")
    photos = read_flowers102(flowers.parent / "data")
    assert photos.samples[0].path == flowers.parent / "data" / "flowers-102" / "jpg" / "image_00001.jpg"


def test_pictures_of_flowers_that_are_in_no_split_or_list_are_counted_and_left_out(flowers, draw):
    write_flowers(flowers, tstid=[3])
    draw(flowers / "jpg" / "mine.jpg")
    photos = read_photos(DataConfig(dataset="flowers102", root=str(flowers)), seed=0)
    assert photos.notes[:2] == (
        "pictures in no split, left out: 1 of 5 (image_00005.jpg)",
        "photographs in jpg/ that the lists do not name, left out: 1 (mine.jpg)",
    )
    assert [sample.path.name for sample in photos.subset("test")] == ["image_00003.jpg"]


def test_another_labelled_set_may_have_an_official_layout(flowers):
    found = read_labelled_set(root=flowers, manifest=None, classes=("moon orchid", "canterbury bells"), split="test")
    assert [sample.label for sample in found.samples] == [0, 0]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("image_class_labels", "1 1\n2 1\n3 4\n", "images.txt: the class 4 has no name; take all index files"),
        ("image_class_labels", "1 1\n3 3\n", "image_class_labels.txt gives no number for 1 images of images.txt: 2;"),
        ("train_test_split", "1 1\n3 1\n", "train_test_split.txt gives no number for 1 images of images.txt: 2;"),
        ("train_test_split", "1 1\n2 2\n3 1\n", "must give 1 .train. or 0 .test., got 2 for image 2"),
        ("train_test_split", "1 1\n2 0\n3 0\n", "1 of 2 have none: Auk"),
        ("images", "1 x/a.jpg\n2 x/b.jpg\n3 x/a.jpg\n", "images.txt names images/x/a.jpg twice"),
    ],
)
def test_an_index_of_cub_that_contradicts_another_is_refused(cub, name, text, message):
    (cub / f"{name}.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        read_cub(cub, check_files=False)


def test_files_that_the_index_names_must_exist(cub, flowers, draw):
    for name in ("001.Black_footed_Albatross/a.jpg", "001.Black_footed_Albatross/b.jpg"):
        draw(cub / "images" / name)
    with pytest.raises(DataError, match=r"names 3 files, 1 of them missing, first .*c\.jpg"):
        read_cub(cub)
    draw(cub / "images" / "003.Auk" / "c.jpg")
    assert len(read_cub(cub).samples) == 3
    (flowers / "jpg" / "image_00004.jpg").unlink()
    with pytest.raises(DataError, match=r"setid\.mat names 5 files, 1 of them missing, first .*image_00004\.jpg"):
        read_flowers102(flowers)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("pizza/9", "test.txt line 1 must be CLASS/ID, the class in classes.txt, got 'pizza/9'"),
        ("waffles", "test.txt line 1 must be CLASS/ID"),
        ("waffles/1", "meta names images/waffles/1.jpg twice"),
    ],
)
def test_a_bad_entry_of_food_is_named(food, entry, message):
    write(food / "meta", test=f"{entry}\n")
    with pytest.raises(DataError, match=message):
        read_food101(food, check_files=False)


@pytest.mark.parametrize(
    ("files", "labels", "message"),
    [
        ([CHIHUAHUA], [3], f"names Images/{CHIHUAHUA} twice"),
        ([SPANIEL.replace("_2", "_9")], [3], "the label 3, that of n02085620-Chihuahua; download the lists again"),
        ([SPANIEL.replace("_2", "_9")], [8], "class names must be unique, got 2 classes named 'Japanese spaniel'"),
        (["a/b.jpg"], [1, 2], "got 1 files and 2 labels"),
    ],
)
def test_lists_of_dogs_that_contradict_themselves_are_refused(dogs, files, labels, message):
    write_dogs(dogs / "lists" / "test_list.mat", files, labels)
    with pytest.raises(DataError, match=message):
        read_dogs(dogs, check_files=False)


@pytest.mark.parametrize(
    ("labels", "splits", "message"),
    [
        (LABELS, {"tstid": [5, 3, 2]}, r"setid\.mat names jpg/image_00002\.jpg twice"),
        (LABELS, {"valid": [4, 4]}, r"setid\.mat names jpg/image_00004\.jpg twice"),
        (LABELS, {"tstid": [6]}, "pictures from 1 to 5, as many as imagelabels.mat labels, got 6; take both"),
        (LABELS, {"tstid": [0]}, "pictures from 1 to 5, as many as imagelabels.mat labels, got 0; take both"),
        (LABELS, {"tstid": [2.5]}, r"setid\.mat must hold whole numbers; download"),
        ([*LABELS[:4], 103], {}, "the class 103 has no name"),
        (LABELS, {"trnid": [1]}, "every class needs photographs for training, 1 of 2 have none: canterbury"),
    ],
)
def test_lists_of_flowers_that_contradict_themselves_are_refused(flowers, labels, splits, message):
    write_flowers(flowers, labels, **splits)
    with pytest.raises(DataError, match=message):
        read_flowers102(flowers, check_files=False)


@pytest.mark.parametrize("name", ["imagelabels.mat", "setid.mat"])
def test_a_missing_or_broken_matlab_list_is_named_with_the_way_out(flowers, name):
    io.savemat(flowers / name, {"trnid": [[1, 2]], "tstid": [[3]]})
    with pytest.raises(DataError, match=rf"{name} must hold .*, got no '(labels|valid)'; download the lists again"):
        read_flowers102(flowers)
    (flowers / name).write_bytes(b"MATLAB 5.0 MAT-file, cut short")
    with pytest.raises(DataError, match=rf"{name} is not a readable MATLAB file; download the lists again"):
        read_flowers102(flowers)
    (flowers / name).unlink()
    with pytest.raises(DataError, match=rf"flowers/{name} does not exist; data\.root must be the folder of"):
        read_flowers102(flowers)


def test_without_scipy_the_refusal_names_the_extra(flowers, monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(DataError, match=r"imagelabels\.mat needs scipy to be read: pip install 'mpfgvc\[matlab\]'$"):
        read_flowers102(flowers)
