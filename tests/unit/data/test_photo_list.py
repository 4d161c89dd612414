"""The stored photographs of a run: written, and read back strictly."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from mpfgvc.data.headers import photo_digest
from mpfgvc.data.listed_shards import ListedPhoto
from mpfgvc.data.photo_list import PhotoList, photo_digests
from mpfgvc.data.readers.folders import read_folders
from mpfgvc.errors import CheckpointError


def small_list(**changes) -> PhotoList:
    photographs = (
        ListedPhoto(path="b/1.jpg", label=1, split="train", digest="0123456789abcdef" * 2),
        ListedPhoto(path="a/0.jpg", label=0, split="test"),
    )
    whole = PhotoList(dataset="pets", supercategory=None, classes=("cat", "dög #1"), photographs=photographs)
    return replace(whole, **changes)


def test_a_list_that_was_saved_is_read_back_equal(tmp_path):
    for photo_list in (small_list(), small_list(supercategory="pet", dataset="null")):
        photo_list.save(tmp_path / "photographs.json")
        assert PhotoList.load(tmp_path / "photographs.json") == photo_list


def test_a_file_name_that_is_not_utf8_keeps_its_bytes(tmp_path):
    name = os.fsdecode(b"caf\xe9.jpg")
    photos = (ListedPhoto(path=f"a/{name}", label=0, split="train"),)
    small_list(photographs=photos).save(tmp_path / "photographs.json")
    (photo,) = PhotoList.load(tmp_path / "photographs.json").photographs
    assert os.fsencode(photo.at(tmp_path)).endswith(b"/a/caf\xe9.jpg")


def test_paths_start_from_the_root_wherever_it_is(class_folders):
    photos = read_folders(class_folders, test_share=0.2, seed=0)
    digests = photo_digests(sample.path for sample in photos.samples)
    photo_list = PhotoList.of(photos, root=class_folders, digests=digests)
    assert photo_list.classes == ("class 1", "class 2", "class 10")
    assert {photo.path.split("/")[0] for photo in photo_list.photographs} == set(photo_list.classes)
    sample, photo = photos.samples[7], photo_list.photographs[7]
    assert photo.at(class_folders) == sample.path
    assert (photo.label, photo.split) == (sample.label, sample.split)
    assert photo.digest == photo_digest(sample.path) != ""


def test_no_list_is_read_from_a_run_of_an_older_version(tmp_path):
    assert PhotoList.load(tmp_path / "photographs.json") is None


def change(**changes):
    return lambda document: document | changes


def change_row(*row):
    return lambda document: document | {"photographs": [document["photographs"][0], list(row)]}


@pytest.mark.parametrize(
    ("edit", "rule"),
    [
        (change(format=2), "this version reads format 1, got 2"),
        (change(columns=["path", "label", "digest", "split"]), "reads format 1"),
        (change(more=1), "it must hold classes"),
        (lambda document: [document], "it must hold classes"),
        (change(classes=["cat", "cat"]), "class names must be unique"),
        (change(classes=["cat", None]), "classes must be a list of names"),
        (change(classes=[]), "classes must be a list of names"),
        (change(dataset=None), "dataset must be text, got None"),
        (change(supercategory=3), "supercategory must be text, got 3"),
        (change(photographs=[]), "at least one photograph"),
        (change(photographs={}), "at least one photograph"),
        (change_row("b/1.jpg", 1, "train", ""), "each photograph must be listed once"),
        (change_row("", 1, "train", ""), "photograph 2 must be"),
        (change_row("c\0", 1, "train", ""), "photograph 2 must be"),
        (change_row("c", 2, "train", ""), "photograph 2 must be"),
        (change_row("c", -1, "train", ""), "photograph 2 must be"),
        (change_row("c", True, "train", ""), "photograph 2 must be"),
        (change_row("c", 1.0, "train", ""), "photograph 2 must be"),
        (change_row("c", 1, "exam", ""), "photograph 2 must be"),
        (change_row("c", 1, "train", "0123"), "photograph 2 must be"),
        (change_row("c", 1, "train", "g" * 32), "photograph 2 must be"),
        (change_row("c", 1, "train"), "photograph 2 must be"),
    ],
)
def test_what_is_not_a_list_is_refused_in_one_line_with_its_rule(edit, rule):
    text = json.dumps(edit(json.loads(small_list().to_json())))
    with pytest.raises(CheckpointError) as caught:
        PhotoList.from_json(text, where=Path("run/photographs.json"))
    assert str(caught.value).startswith("run/photographs.json is not a list of photographs: ")
    assert rule in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"a": 1}x'])
def test_what_is_no_json_is_refused(text):
    with pytest.raises(CheckpointError, match="it must be JSON"):
        PhotoList.from_json(text, where=Path("photographs.json"))


def test_one_changed_letter_is_noticed(tmp_path):
    path = tmp_path / "photographs.json"
    small_list().save(path)
    path.write_text(path.read_text().replace('"test"', '"train"'))
    with pytest.raises(CheckpointError, match=r"photographs\.json is damaged"):
        PhotoList.load(path)


def test_a_digest_covers_the_size_the_beginning_and_the_end(tmp_path):
    content = bytearray(os.urandom(40_000))
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    first = photo_digest(path)
    assert len(first) == 32
    for place in (0, 16_383, 36_000, 39_999):
        changed = content.copy()
        changed[place] ^= 1
        path.write_bytes(changed)
        assert photo_digest(path) != first
    path.write_bytes(content[:20_000] + content[20_001:])
    assert photo_digest(path) != first


def test_what_is_no_regular_file_has_no_digest(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    paths = [tmp_path / "pipe.jpg", tmp_path, tmp_path / "no"]
    assert photo_digests(paths) == dict.fromkeys(paths, "")
