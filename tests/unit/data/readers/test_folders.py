"""Class folders."""

import itertools
import os
import shutil
import subprocess
import unicodedata
from collections import Counter
from pathlib import Path

import pytest

from mpfgvc.data.readers.folders import read_folders
from mpfgvc.errors import DataError


def read(root):
    return read_folders(root, test_share=0.2, seed=0)


def test_classes_are_in_natural_order_and_a_test_split_is_made(class_folders):
    photos = read(class_folders)
    assert photos.name == "birds"
    assert photos.classes == ("class 1", "class 2", "class 10")
    assert Counter((s.label, s.split) for s in photos.samples) == {
        (0, "train"): 4, (1, "train"): 8, (2, "train"): 8,
        (0, "test"): 1, (1, "test"): 2, (2, "test"): 2,
    }  # fmt: skip
    assert photos.notes == ("no split found: 5 of 25 photographs held out for the test",)


@pytest.mark.parametrize("validation", ["val", "valid", "Validation", "dev", "eval", "evaluation"])
def test_split_folders_are_taken_as_they_are(tmp_path, draw, validation):
    for split, count in {"train": 3, validation: 2, "test": 1}.items():
        for name in ("crow", "tern"):
            for index in range(count):
                draw(tmp_path / split / name / f"{index}.jpg")
    photos = read(tmp_path)
    assert photos.classes == ("crow", "tern")
    assert [len(photos.subset(split)) for split in ("train", "validation", "test")] == [6, 4, 2]
    assert photos.notes == ()


def test_a_class_may_be_called_train(tmp_path, draw):
    for name in ("train", "bus"):
        draw(tmp_path / name / "1.jpg")
    assert read(tmp_path).classes == ("bus", "train")


def test_photographs_may_lie_deeper_in_a_class_folder(class_folders, draw):
    draw(class_folders / "class 1" / "spring" / "new.jpg")
    assert sum(sample.label == 0 for sample in read(class_folders).samples) == 6


def test_hidden_files_and_other_files_are_left_out_with_a_note_each(class_folders, draw):
    draw(class_folders / "class 1" / "._1.png")
    draw(class_folders / "class 10" / "@eaDir" / "1.png" / "SYNOPHOTO_THUMB_M.jpg")
    draw(class_folders / "__MACOSX" / "old.png")
    draw(class_folders / "loose.png")
    (class_folders / "class 2" / "notes.txt").write_text("seen at dawn")
    (class_folders / "class 2" / "Thumbs.db").touch()
    (class_folders / "class 2" / "gone.jpg").symlink_to("nowhere.jpg")
    photos = read(class_folders)
    assert photos.classes == ("class 1", "class 2", "class 10")
    assert len(photos.samples) == 25
    loose, others, hidden, links, _ = photos.notes
    assert loose.startswith("ignored 1 photographs beside the class folders: ")
    assert others.startswith("ignored 1 files that are not photographs: ")
    assert others.endswith("notes.txt")
    assert hidden.startswith("ignored 3 hidden or system files and folders: ")
    assert links.startswith("ignored 1 links that lead nowhere or in a circle: ")
    assert links.endswith("gone.jpg")


def test_photographs_beside_split_folders_are_noted(tmp_path, draw):
    for folder in ("train/crow", "train/tern", "test/crow", "unlabelled", "unlabelled/more"):
        draw(tmp_path / folder / "1.png")
    photos = read(tmp_path)
    assert len(photos.samples) == 3
    folder = tmp_path / "unlabelled"
    assert photos.notes == (f"ignored 2 photographs in {folder}, which is not named like a split",)


def test_names_that_are_not_utf_8_survive(class_folders, draw):
    folder = class_folders / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    shutil.copy(class_folders / "class 1" / "1.png", folder / os.fsdecode(b"\xfc.png"))
    photos = read(class_folders)
    assert os.fsencode(photos.classes[0]) == b"caf\xe9"
    assert photos.samples[0].read().size == (40, 30)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_names_have_one_unicode_form_in_whichever_the_disk_has_them(tmp_path, draw, form):
    names = ["Übel", "Zaunkönig", "Café"]
    for name, number in itertools.product(names, range(8)):
        draw(tmp_path / unicodedata.normalize(form, f"Vögel/{name}/{number}.jpg"))
    photos = read_folders(tmp_path, test_share=0.3, seed=0, nested=True)
    assert photos.classes == ("Café", "Zaunkönig", "Übel")
    assert photos.taxonomy.groups == (("Vögel",) * 3,)
    assert all(sample.path.is_file() for sample in photos.samples)
    held_out = [(sample.label, sample.path.stem) for sample in photos.subset("test")]
    assert held_out == [(0, "0"), (0, "7"), (1, "3"), (1, "5"), (2, "0"), (2, "1")]


@pytest.mark.parametrize(("depth", "says"), [(1500, "holds no photographs"), (2100, "File name too long")])
def test_folders_nested_deeply_end_in_one_line(tmp_path, monkeypatch, depth, says):
    monkeypatch.chdir(tmp_path)
    for _ in range(depth):
        Path("a").mkdir()
        os.chdir("a")
    monkeypatch.chdir("/")
    for nested in (True, False):
        with pytest.raises(DataError, match=says) as refusal:
            read_folders(tmp_path, test_share=0, seed=0, nested=nested)
        assert "\n" not in str(refusal.value)
    subprocess.run(["rm", "-r", tmp_path / "a"], check=True)  # pytest's own removal, three runs later, would recurse


def test_folders_that_look_the_same_are_refused(class_folders, draw):
    draw(class_folders / "class  1" / "1.png")
    with pytest.raises(DataError, match="class names must look different, got 'class 1' and 'class  1'"):
        read(class_folders)


def test_an_empty_class_folder_is_named(class_folders):
    (class_folders / "class 3").mkdir()
    with pytest.raises(DataError, match=r"class folder .*class 3 holds no photographs"):
        read(class_folders)


def test_a_class_in_test_that_training_lacks_is_named(tmp_path, draw):
    for path in ("train/crow/1.jpg", "train/tern/1.jpg", "test/crow/2.jpg", "test/auk/1.jpg"):
        draw(tmp_path / path)
    with pytest.raises(DataError, match="1 of 3 have none: auk"):
        read(tmp_path)


def test_split_folders_without_train_are_refused(tmp_path, draw):
    draw(tmp_path / "test" / "crow" / "1.jpg")
    with pytest.raises(DataError, match="has test but no train folder"):
        read(tmp_path)


def test_two_folders_for_one_split_are_refused(tmp_path, draw):
    for split in ("train", "val", "valid"):
        draw(tmp_path / split / "crow" / "1.jpg")
    with pytest.raises(DataError, match="two folders for validation: val and valid"):
        read(tmp_path)


def test_a_folder_without_class_folders_is_refused(tmp_path, draw):
    draw(tmp_path / "1.jpg")
    with pytest.raises(DataError, match="must hold one folder of photographs per class, got none"):
        read(tmp_path)


def test_one_class_is_refused_with_a_hint_to_the_folder_below(class_folders):
    with pytest.raises(DataError, match=r"at least 2 class folders, got 1 \(birds\); perhaps .*birds"):
        read(class_folders.parent)
    for name in ("class 2", "class 10"):
        shutil.rmtree(class_folders / name)
    with pytest.raises(DataError, match="add a folder per class"):
        read(class_folders)


@pytest.mark.parametrize(
    ("files", "dataset"),
    [
        (["image_class_labels.txt"], "cub"),
        (["image_class_labels.txt", "hierarchy.txt"], "nabirds"),
        (["lists/train_list.mat"], "dogs"),
        (["train_list.mat"], "dogs"),
        (["meta/classes.txt"], "food101"),
        (["setid.mat"], "flowers102"),
        (["flowers-102/setid.mat"], "flowers102"),
    ],
)
def test_an_official_layout_is_recognised(tmp_path, files, dataset):
    for file in files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    with pytest.raises(DataError, match=f"this looks like .*: set data.dataset={dataset}$"):
        read(tmp_path)
