"""The lists and pictures of Oxford Flowers-102."""

import builtins
import json
from pathlib import Path

import numpy as np
import pytest

from mpfgvc.config import DataConfig
from mpfgvc.data.catalog import read_photos
from mpfgvc.data.readers.official import read_flowers102
from mpfgvc.data.run_photos import read_labelled_set
from mpfgvc.errors import DataError

io = pytest.importorskip("scipy.io")

LABELS = [7, 3, 7, 3, 7]
SPLITS = {"trnid": [2, 1], "valid": [4], "tstid": [5, 3]}
NAMES = {"3": "canterbury bells", "7": "moon orchid", "8": "rose"}


def write(root: Path, labels: list[int] = LABELS, **splits: list[float]) -> None:
    """The lists as their authors wrote them: one row each."""
    root.mkdir(exist_ok=True)
    io.savemat(root / "imagelabels.mat", {"labels": np.array([labels], dtype=np.uint8)})
    rows = {name: np.array([numbers]) for name, numbers in (SPLITS | splits).items()}
    io.savemat(root / "setid.mat", rows)


@pytest.fixture
def flowers(tmp_path, draw):
    """Five pictures of two classes."""
    home = tmp_path / "flowers"
    write(home)
    (home / "cat_to_name.json").write_text(json.dumps(NAMES))
    for number in range(1, 6):
        draw(home / "jpg" / f"image_{number:05d}.jpg", seed=number)
    return home


def test_the_official_split_is_read_with_its_validation_part(flowers):
    photos = read_flowers102(flowers)
    assert photos.classes == ("canterbury bells", "moon orchid")
    assert [(sample.label, sample.split) for sample in photos.samples] == [
        (1, "train"),
        (0, "train"),
        (1, "test"),
        (0, "validation"),
        (1, "test"),
    ]
    assert photos.samples[2].path == flowers / "jpg" / "image_00003.jpg"
    assert photos.notes == ()


def test_no_other_validation_photographs_are_held_out(flowers):
    photos = read_photos(DataConfig(dataset="flowers102", root=str(flowers), validation=0.5), seed=0)
    assert [len(photos.subset(split)) for split in ("train", "validation", "test")] == [2, 1, 2]
    assert photos.supercategory == "flower"
    assert photos.notes[0].startswith("a subset: 2 of the 102 classes, 2 of the 1020 training images, 2 of")


@pytest.mark.parametrize("outer", ["flowers-102", "oxford flowers"])
def test_the_folder_above_may_be_given(flowers, outer):
    photos = read_flowers102(flowers)
    above = flowers.parent / "data"
    above.mkdir()
    (above / "notes").mkdir()
    flowers.rename(above / outer)
    moved = read_flowers102(above)
    assert moved.classes == photos.classes
    assert moved.samples[0].path == above / outer / "jpg" / "image_00001.jpg"


def test_a_folder_with_two_copies_is_refused(flowers):
    write(flowers.parent / "again")
    with pytest.raises(DataError, match=r"holds Oxford Flowers-102 2 times \(again, flowers\); set data.root to"):
        read_flowers102(flowers.parent)


def test_without_a_file_of_names_the_classes_have_their_known_ones(flowers):
    (flowers / "cat_to_name.json").unlink()
    assert read_flowers102(flowers).classes == ("canterbury bells", "moon orchid")


def test_pictures_in_no_split_are_counted_and_left_out(flowers):
    write(flowers, tstid=[3])
    photos = read_flowers102(flowers)
    assert photos.notes == ("pictures in no split, left out: 1 of 5 (5)",)
    assert [sample.path.name for sample in photos.subset("test")] == ["image_00003.jpg"]


def test_other_photographs_among_the_pictures_are_counted_and_left_out(flowers, draw):
    draw(flowers / "jpg" / "mine.jpg")
    photos = read_flowers102(flowers)
    assert photos.notes == ("photographs in jpg/ that the lists do not name, left out: 1 (mine.jpg)",)
    assert len(photos.samples) == 5


@pytest.mark.parametrize(
    ("labels", "splits", "message"),
    [
        (LABELS, {"tstid": [5, 3, 2]}, r"one split, got 1 pictures twice \(2 in trnid and tstid\)"),
        (LABELS, {"valid": [4, 4]}, r"one split, got 1 pictures twice \(4 in valid and valid\)"),
        (LABELS, {"tstid": [6]}, "pictures from 1 to 5, as many as imagelabels.mat labels, got 6 in tstid"),
        (LABELS, {"tstid": [0]}, "pictures from 1 to 5, as many as imagelabels.mat labels, got 0 in tstid"),
        (LABELS, {"tstid": [2.5]}, "list pictures by whole numbers, got 2.5"),
        ([0, *LABELS[1:]], {}, "labels from 1, got 0"),
        ([*LABELS[:4], 103], {}, r"cat_to_name\.json names no class 103 of .*imagelabels\.mat; complete"),
        (LABELS, {"trnid": [1]}, "every class needs photographs for training, 1 of 2 have none: canterbury"),
    ],
)
def test_lists_that_contradict_themselves_are_refused(flowers, labels, splits, message):
    write(flowers, labels, **splits)
    with pytest.raises(DataError, match=message):
        read_flowers102(flowers, check_files=False)


def test_fewer_labels_than_pictures_are_refused(flowers):
    write(flowers, LABELS[:4], tstid=[3])
    message = r"got 4 labels and 5 pictures, first without a label image_00005\.jpg; take both from one release"
    with pytest.raises(DataError, match=message):
        read_flowers102(flowers)


def test_more_labels_than_pictures_are_refused(flowers):
    write(flowers, [*LABELS, 3])
    with pytest.raises(DataError, match=r"names 6 files, 1 of them missing, first .*image_00006\.jpg"):
        read_flowers102(flowers)


@pytest.mark.parametrize("name", ["imagelabels.mat", "setid.mat"])
def test_a_missing_or_broken_list_is_named_with_the_way_out(flowers, name):
    (flowers / name).write_bytes(b"MATLAB 5.0 MAT-file, cut short")
    with pytest.raises(DataError, match=rf"{name} is not a readable MATLAB file; download the lists again"):
        read_flowers102(flowers)
    (flowers / name).unlink()
    layout = r"data\.root must hold imagelabels\.mat, setid\.mat and jpg/"
    with pytest.raises(DataError, match=rf"flowers/{name} does not exist; {layout}$"):
        read_flowers102(flowers)


def test_a_list_without_a_split_is_refused(flowers):
    io.savemat(flowers / "setid.mat", {"trnid": [[1, 2]], "tstid": [[3]]})
    with pytest.raises(DataError, match=r"setid\.mat must hold trnid, valid and tstid, valid is missing"):
        read_flowers102(flowers)


@pytest.mark.parametrize("text", ["{", "[1, 2]", '{"three": "rose"}', '{"3": 4}', '{"3": " "}'])
def test_names_that_cannot_be_read_are_refused(flowers, text):
    (flowers / "cat_to_name.json").write_text(text)
    with pytest.raises(DataError, match=r"cat_to_name\.json must map class numbers to names"):
        read_flowers102(flowers)


def test_without_scipy_the_refusal_names_the_extra(flowers, monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name.startswith("scipy"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(DataError, match=r"^Oxford Flowers-102 needs scipy .*: pip install 'mpfgvc\[matlab\]'$"):
        read_flowers102(flowers)


def test_another_labelled_set_may_have_this_layout(flowers):
    found = read_labelled_set(root=flowers, manifest=None, classes=("moon orchid", "canterbury bells"), split="test")
    assert [sample.label for sample in found.samples] == [0, 0]
