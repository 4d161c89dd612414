"""Labelled sets that a run knows nothing of, brought under its classes."""

import os
import shutil

import pytest

from mpfgvc.data.labelled_set import read_labelled_set
from mpfgvc.errors import ConfigError, DataError

CLASSES = ("auk", "house wren", "tern", "Café")


@pytest.fixture
def make(tmp_path, draw):
    """Draw photographs at paths below a folder, which is returned."""

    def write(*names):
        for index, name in enumerate(names):
            draw(tmp_path / "new" / name, seed=index)
        return str(tmp_path / "new")

    return write


def read(root=None, *, manifest=None, split="test"):
    return read_labelled_set(root=root, manifest=manifest, classes=CLASSES, split=split)


def labels(found):
    return [(sample.path.name, CLASSES[sample.label]) for sample in found.samples]


def test_class_folders_are_taken_whole_though_classes_are_absent(make):
    found = read(make("tern/a.png", "tern/b.png", "auk/deep/c.png"))
    assert labels(found) == [("c.png", "auk"), ("a.png", "tern"), ("b.png", "tern")]
    assert {sample.split for sample in found.samples} == {"test"}
    assert "all of it is evaluated" in found.notes[0]


def test_a_single_class_will_do(make):
    assert labels(read(make("tern/a.png"))) == [("a.png", "tern")]


def test_a_set_that_has_only_a_test_folder_is_taken(make):
    found = read(make("test/tern/a.png", "test/auk/b.png"))
    assert labels(found) == [("b.png", "auk"), ("a.png", "tern")]


def test_of_a_set_with_a_test_split_only_that_is_taken_and_the_rest_is_counted(make):
    found = read(make("test/tern/a.png", "train/tern/b.png", "val/auk/c.png"))
    assert labels(found) == [("a.png", "tern")]
    assert "its test split is evaluated, without the photographs of its other splits (2)" in found.notes[0]


def test_without_a_test_split_all_splits_are_taken_together_and_a_note_says_so(make):
    found = read(make("train/tern/b.png", "val/auk/c.png"))
    assert sorted(labels(found)) == [("b.png", "tern"), ("c.png", "auk")]
    assert "all of it is evaluated, the splits train and validation together" in found.notes[0]


def test_another_split_can_be_asked_for_if_the_set_names_it(make):
    root = make("val/tern/a.png", "test/auk/b.png")
    assert labels(read(root, split="validation")) == [("a.png", "tern")]
    with pytest.raises(DataError, match=r"has no train split \(splits: test, validation\)"):
        read(root, split="train")


def test_unknown_classes_are_refused_by_name_with_the_nearest_known_one(make):
    root = make("tern/a.png", "House_Wren/b.png", "zebra/c.png")
    with pytest.raises(DataError) as caught:
        read(root)
    assert "that the run does not know: 2 of 3 (" in str(caught.value)
    assert "'House_Wren', near 'house wren'; 'zebra'" in str(caught.value)


def test_accents_may_be_written_in_either_form_of_unicode(make):
    assert labels(read(make("Cafe\u0301/a.png"))) == [("a.png", "Café")]


def test_names_that_look_the_same_are_one_class(make):
    assert labels(read(make("house  wren\u200b/a.png"))) == [("a.png", "house wren")]


def test_a_table_without_splits_is_taken_whole_and_its_paths_start_beside_it(make, tmp_path):
    make("x/a.png", "y/b.png")
    table = tmp_path / "new" / "list.csv"
    table.write_text("path,label\nx/a.png,tern\ny/b.png,auk\n")
    assert labels(read(manifest=str(table))) == [("a.png", "tern"), ("b.png", "auk")]
    shutil.move(table, tmp_path / "list.csv")
    moved = read(str(tmp_path / "new"), manifest=str(tmp_path / "list.csv"))
    assert [sample.path for sample in moved.samples] == [tmp_path / "new/x/a.png", tmp_path / "new/y/b.png"]


def test_of_a_table_with_splits_the_rows_of_the_test_are_taken(make, tmp_path):
    make("a.png", "b.png")
    (tmp_path / "new" / "list.csv").write_text("path,label,split\na.png,tern,test\nb.png,auk,train\n")
    assert labels(read(manifest=str(tmp_path / "new" / "list.csv"))) == [("a.png", "tern")]


def test_an_official_layout_is_read_as_one(make, tmp_path):
    root = make("images/1.tern/a.png", "images/1.tern/b.png", "images/2.auk/c.png", "images/2.auk/d.png")
    lists = {
        "images.txt": "1 1.tern/a.png\n2 1.tern/b.png\n3 2.auk/c.png\n4 2.auk/d.png\n",
        "classes.txt": "1 1.tern\n2 2.auk\n",
        "image_class_labels.txt": "1 1\n2 1\n3 2\n4 2\n",
        "train_test_split.txt": "1 1\n2 0\n3 1\n4 0\n",
    }
    for name, text in lists.items():
        (tmp_path / "new" / name).write_text(text)
    assert labels(read(root)) == [("b.png", "tern"), ("d.png", "auk")]


def test_what_is_no_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match="nowhere, which does not exist"):
        read(str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match=r"--data\.root or --data\.manifest"):
        read()


def test_a_class_name_that_is_not_utf8_is_refused_in_one_line(make):
    root = make(f"{os.fsdecode(bytes([0x66, 0xE9]))}/a.png")
    with pytest.raises(DataError, match="does not know: 1 of 1"):
        read(root)
