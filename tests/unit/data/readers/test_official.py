"""The official layouts, in miniature."""

import json
from pathlib import Path

import pytest

from mpfgvc.data.readers.official import read_cub, read_food101, read_nabirds
from mpfgvc.errors import DataError


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
        classes="1 001.Black_footed_Albatross\n2 002.Laysan_Albatross\n3 003.Auk\n",
    )


@pytest.fixture
def food(tmp_path):
    meta = tmp_path / "food"
    meta.mkdir()
    write(meta / "meta", classes="apple_pie\nwaffles\n", train="waffles/1\napple_pie/2\n", test="waffles/3\n")
    return meta


def test_classes_in_use_have_dense_labels_and_readable_names(cub):
    photos = read_cub(cub, check_files=False)
    assert photos.classes == ("Black footed Albatross", "Auk")
    assert [(sample.label, sample.split) for sample in photos.samples] == [(0, "train"), (0, "test"), (1, "train")]
    assert photos.samples[2].path == cub / "images" / "003.Auk" / "c.jpg"


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


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("image_class_labels", "1 1\n2 1\n3 4\n", "gives image 3 the class 4, which classes.txt lacks"),
        ("image_class_labels", "1 1\n3 3\n", "gives no label for 1 images of images.txt: 2"),
        ("train_test_split", "1 1\n3 1\n", "gives no split for 1 images of images.txt: 2"),
        ("train_test_split", "1 1\n2 2\n3 1\n", "must give 1 .train. or 0 .test., got 2 for image 2"),
        ("train_test_split", "1 1\n2 0\n3 0\n", "1 of 2 have none: Auk"),
        ("images", "1 x/a.jpg\n2 x/b.jpg\n3 x/a.jpg\n", "images.txt names x/a.jpg twice"),
    ],
)
def test_an_index_that_contradicts_another_is_refused(cub, name, text, message):
    (cub / f"{name}.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        read_cub(cub, check_files=False)


def test_files_that_the_index_names_must_exist(cub, draw):
    for name in ("001.Black_footed_Albatross/a.jpg", "001.Black_footed_Albatross/b.jpg"):
        draw(cub / "images" / name)
    with pytest.raises(DataError, match=r"names 3 files, 1 of them missing, first .*c\.jpg"):
        read_cub(cub)
    draw(cub / "images" / "003.Auk" / "c.jpg")
    assert len(read_cub(cub).samples) == 3


def test_food_entries_become_paths_labels_and_splits(food):
    photos = read_food101(food, check_files=False)
    assert photos.classes == ("apple pie", "waffles")
    entries = [("/".join(s.path.parts[-3:]), s.label, s.split) for s in photos.samples]
    assert entries == [
        ("images/waffles/1.jpg", 1, "train"),
        ("images/apple_pie/2.jpg", 0, "train"),
        ("images/waffles/3.jpg", 1, "test"),
    ]


def test_the_lists_of_food_may_be_json(food):
    text = read_food101(food, check_files=False)
    for split in ("train", "test"):
        entries = (food / "meta" / f"{split}.txt").read_text().split()
        groups: dict[str, list[str]] = {}
        for entry in entries:
            groups.setdefault(entry.split("/")[0], []).append(entry)
        (food / "meta" / f"{split}.json").write_text(json.dumps(groups))
        (food / "meta" / f"{split}.txt").unlink()
    assert list(read_food101(food, check_files=False).samples) == list(text.samples)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("pizza/9", "test.txt line 1 must be CLASS/ID, the class in classes.txt, got 'pizza/9'"),
        ("waffles", "test.txt line 1 must be CLASS/ID"),
        ("waffles/1", "test.txt line 1 repeats waffles/1 of train"),
    ],
)
def test_a_bad_entry_of_food_is_named(food, entry, message):
    (food / "meta" / "test.txt").write_text(f"{entry}\n")
    with pytest.raises(DataError, match=message):
        read_food101(food, check_files=False)


def test_a_json_list_of_another_shape_is_refused(food):
    (food / "meta" / "test.txt").unlink()
    (food / "meta" / "test.json").write_text("[1, 2]")
    with pytest.raises(DataError, match=r"test\.json must map each class to a list"):
        read_food101(food, check_files=False)
