"""The photographs of a run, found again where the dataset is now, and other sets under its classes."""

import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest

from mpfgvc.config import DataConfig
from mpfgvc.data.catalog import moved, read_photos
from mpfgvc.data.inspection import photo_digest
from mpfgvc.data.pack import pack
from mpfgvc.data.photographs_file import load_photos, save_photos
from mpfgvc.data.run_photos import current_digests, differing, is_dataset_of, read_labelled_set, restore, with_digests
from mpfgvc.data.samples import SPLITS, PhotoSet, Samples
from mpfgvc.errors import CheckpointError, ConfigError, DataError
from mpfgvc.recipes_io import load_config


@pytest.fixture
def config(class_folders):
    return load_config(overrides={"data.root": str(class_folders)}).data


@pytest.fixture
def stored(config, tmp_path):
    """What a run keeps of the photographs that some settings name."""

    def store(data=None, *, digests=True, seed=0) -> PhotoSet:
        photos = read_photos(data or config, seed=seed)
        save_photos(with_digests(photos, "raise") if digests else photos, tmp_path / "photographs.json")
        return load_photos(tmp_path / "photographs.json")

    return store


def rows(samples):
    return [*zip(samples.paths, samples.labels, samples.splits, strict=True)]


def test_a_list_that_was_saved_is_read_back_equal(tmp_path):
    name = os.fsdecode(b"caf\xe9.jpg")  # not UTF-8
    samples = Samples.of(tmp_path, [("b/1.jpg", 1, "train"), (f"a/{name}", 0, "train"), ("c.jpg", 0, "test")])
    samples = replace(samples, digests=np.array(["0123456789abcdef" * 2, "", ""], "S32"))
    photos = PhotoSet(name="null", classes=("cat", "dög #1"), samples=samples, supercategory="pet")
    save_photos(photos, tmp_path / "photographs.json")
    read = load_photos(tmp_path / "photographs.json")
    assert (read.name, read.classes, read.supercategory) == ("null", photos.classes, "pet")
    assert rows(read.samples) == rows(samples)
    assert read.samples.fingerprint() == samples.fingerprint()
    assert os.fsencode(read.samples[1].path).endswith(b"a/caf\xe9.jpg")


def change(**changes):
    return lambda document: document | changes


def change_row(*row):
    return lambda document: document | {"photographs": [*document["photographs"][:-1], list(row)]}


@pytest.mark.parametrize(
    ("edit", "rule"),
    [
        (change(format=2), "format: Input should be 1, got 2"),
        (change(columns=["path", "label", "digest", "split"]), "columns.2"),
        (lambda document: {"a": 1}, "Field required"),
        (lambda document: "[" * 100_000, ""),
        (lambda document: json.dumps(document)[:-1], ""),
        (change(classes=["class 1"] * 3), "class names must be unique"),
        (change(classes=[]), "a label must be below 0"),
        (change(photographs=[]), "photographs: "),
        (change_row("class 1/0.png", 1, "train", ""), "must be listed once"),
        (change_row("c\0", 1, "train", ""), "must be listed once, by its path"),
        (change_row("c", 3, "train", ""), "a label must be below 3, got 3"),
        (change_row("c", True, "train", ""), "photographs.24.1: "),
        (change_row("c", 1, "exam", ""), "photographs.24.2: "),
        (change_row("c", 1, "train", "0123"), "photographs.24.3: "),
    ],
)
def test_what_is_not_a_list_is_refused_in_one_line_with_its_rule(stored, tmp_path, edit, rule):
    stored()
    file = tmp_path / "unchecked.json"  # without a digest
    document = edit(json.loads((tmp_path / "photographs.json").read_text()))
    file.write_text(document if isinstance(document, str) else json.dumps(document))
    with pytest.raises(CheckpointError, match=r"unchecked\.json is not a list of photographs: ") as caught:
        load_photos(file)
    assert rule in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_changed_letter_and_a_missing_list_are_noticed(stored, tmp_path):
    stored()
    path = tmp_path / "photographs.json"
    path.write_text(path.read_text().replace('"test"', '"train"', 1))
    with pytest.raises(CheckpointError, match=r"photographs\.json is damaged"):
        load_photos(path)
    with pytest.raises(CheckpointError, match=r"cannot read .*no\.json"):
        load_photos(tmp_path / "no.json")


def test_a_digest_covers_the_size_the_beginning_and_the_end(tmp_path):
    content = bytearray(os.urandom(40_000))
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    first = photo_digest(path)
    assert len(first) == 32
    for offset in (0, 16_383, 36_000, 39_999):
        changed = content.copy()
        changed[offset] ^= 1
        path.write_bytes(changed)
        assert photo_digest(path) != first
    path.write_bytes(content[:20_000] + content[20_001:])
    assert photo_digest(path) != first


def test_the_stored_split_is_restored_where_the_dataset_is_now(stored, class_folders, config, tmp_path):
    photos, before = stored(seed=3), read_photos(config, seed=3)
    class_folders.rename(tmp_path / "elsewhere")
    restored = restore(photos, moved(config, root=tmp_path / "elsewhere", manifest=None))
    assert rows(restored.photos.samples) == rows(before.samples)
    assert restored.root == tmp_path / "elsewhere"
    assert all(sample.path.is_file() for sample in restored.photos.samples)
    assert (restored.missing, restored.added, restored.notes) == ((), (), ())
    with pytest.raises(DataError, match=r"none of the 25 photographs of the run is in .*birds"):
        restore(photos, config)


def test_added_photographs_are_in_no_split_and_a_new_class_changes_no_label(stored, class_folders, config, draw):
    photos = stored()
    for index in range(30):
        draw(class_folders / "class 1" / f"new {index}.png", seed=900 + index)
    draw(class_folders / "class 0" / "0.png", seed=77)
    restored = restore(photos, config)
    drawn_again = read_photos(config, seed=0)
    assert {*drawn_again.subset("test").paths} != {*photos.subset("test").paths}  # what would happen otherwise
    assert rows(restored.photos.samples) == rows(photos.samples)
    assert restored.photos.classes == ("class 1", "class 2", "class 10")
    assert len(restored.added) == 31
    assert "left out: 31 (class 0/0.png, class 1/new 0.png, class 1/new 1.png, ...)" in restored.notes[0]


def test_missing_photographs_are_named_and_left_out_of_what_is_found(stored, class_folders, config):
    photos = stored()
    gone = photos.subset("test").paths[:2]
    for name in gone:
        (class_folders / name).unlink()
    restored = restore(photos, config)
    assert restored.missing == tuple(gone)
    assert len(restored.found("test")) == len(photos.subset("test")) - 2
    assert len(restored.photos.samples) == 25
    assert f"that are missing: 2 of 25 ({gone[0]}" in restored.notes[0]
    with pytest.raises(DataError, match=r"that are missing in .*: 2 of 25 \("):
        restored.refuse_missing()


def test_a_dataset_that_cannot_be_listed_now_is_a_note(stored, class_folders, config):
    photos = stored()
    (class_folders / "empty class").mkdir()
    restored = restore(photos, config)
    assert restored.added == ()
    assert "the dataset cannot be read as it is now" in restored.notes[0]


def test_changed_photographs_are_known_by_their_digests_and_refused(stored, class_folders, config, draw):
    photos = stored()
    path = draw(class_folders / "class 2" / "3.png", seed=12345)
    restored = restore(photos, config)
    changed = differing(restored.photos.samples.digests, current_digests(restored.photos.samples))
    assert [sample.path for sample in restored.photos.samples.take(changed)] == [path]
    with pytest.raises(DataError, match=r"1 photographs changed after the run began, first .*3\.png"):
        restored.refuse_changed(with_digests(restored.photos, "raise"))


def test_synthetic_birds_are_drawn_again_and_compared(stored):
    settings = {"data.dataset": "synthetic", "data.birds.species": 4, "data.birds.train": 3}
    data = load_config(overrides=settings).data
    photos = stored(data)
    restored = restore(photos, data)
    drawn = read_photos(data, seed=0)
    assert rows(restored.photos.samples) == rows(drawn.samples)
    index = int(np.flatnonzero(drawn.samples.splits == SPLITS.index("validation"))[0])
    for one in (0, index):
        assert restored.photos.samples[one].read().tobytes() == drawn.samples[one].read().tobytes()
    with pytest.raises(CheckpointError, match="other synthetic birds"):
        restore(photos, data.replaced(birds=data.birds.replaced(species=5)))


def write_manifest(path, root, *, folder=""):
    files = sorted(root.rglob("*.png"))
    lines = [f"{folder}{each.relative_to(root).as_posix()},{each.parent.name}" for each in files]
    path.write_text("\n".join(["path,label", *lines]) + "\n")


def test_a_manifest_may_move_with_or_without_its_photographs(stored, class_folders, tmp_path):
    write_manifest(tmp_path / "photos.csv", class_folders, folder="birds/")
    data = DataConfig(dataset="manifest", manifest=str(tmp_path / "photos.csv"))
    photos = stored(data)
    assert photos.samples.paths[0].startswith("birds/class 1/")
    (tmp_path / "new").mkdir()
    for name in ("photos.csv", "birds"):
        (tmp_path / name).rename(tmp_path / "new" / name)
    for now in (
        {"root": str(tmp_path / "new"), "manifest": None},
        {"root": None, "manifest": str(tmp_path / "new" / "photos.csv")},
    ):
        assert is_dataset_of(photos, data, **now)
        assert restore(photos, moved(data, **now)).missing == ()


def test_a_table_of_other_photographs_is_another_dataset_though_all_lie_below_one_root(stored, class_folders, tmp_path):
    write_manifest(tmp_path / "photos.csv", class_folders)
    data = DataConfig(dataset="manifest", manifest=str(tmp_path / "photos.csv"), root=str(class_folders))
    photos = stored(data)
    (tmp_path / "other.csv").write_text("path,label\nclass 1/0.png,class 1\n")
    assert is_dataset_of(photos, data, root=None, manifest=data.manifest)
    assert not is_dataset_of(photos, data, root=None, manifest=str(tmp_path / "other.csv"))


@pytest.mark.parametrize(("kept", "expected"), [(3, True), (2, False)])
def test_at_least_half_of_the_test_photographs_make_it_the_same_dataset(
    stored, class_folders, config, tmp_path, kept, expected
):
    photos = stored()
    test = photos.subset("test").paths
    assert len(test) == 5
    for name in test[:kept]:
        (tmp_path / "copy" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(class_folders / name, tmp_path / "copy" / name)
    assert is_dataset_of(photos, config, root=str(tmp_path / "copy"), manifest=None) is expected


def test_other_photographs_under_the_same_names_are_another_dataset_if_digests_are_known(
    stored, config, tmp_path, draw
):
    photos, unknown = stored(), stored(digests=False)
    for index, name in enumerate(photos.samples.paths):
        draw(tmp_path / "other" / name, seed=500 + index)
    elsewhere = {"root": str(tmp_path / "other"), "manifest": None}
    assert not is_dataset_of(photos, config, **elsewhere)
    assert is_dataset_of(unknown, config, **elsewhere)


@pytest.fixture
def shards(class_folders, tmp_path):
    """The settings of the same photographs, packed without a validation split."""
    pack(read_photos(DataConfig(root=str(class_folders), validation=0), seed=0), tmp_path / "shards", per_shard=7)
    return DataConfig(dataset="shards", root=str(tmp_path / "shards"))


def test_the_shards_of_a_run_are_found_where_they_are_now_and_no_others(stored, shards, class_folders, tmp_path, draw):
    photos, before = stored(shards, seed=3), read_photos(shards, seed=3)
    (tmp_path / "shards").rename(tmp_path / "new")
    now = {"root": str(tmp_path / "new"), "manifest": None}
    assert is_dataset_of(photos, shards, **now)
    assert not is_dataset_of(photos, shards, root=str(class_folders), manifest=None)
    restored = restore(photos, moved(shards, **now))
    assert rows(restored.photos.samples) == rows(before.samples)
    assert (restored.missing, restored.added, restored.notes) == ((), (), ())
    assert restored.found("train")[0].read().size == (40, 30)
    assert (current_digests(restored.photos.samples) == photos.samples.digests).all()
    for index, sample in enumerate(read_photos(DataConfig(root=str(class_folders)), seed=0).samples):
        draw(sample.path, seed=700 + index)
    pack(read_photos(DataConfig(root=str(class_folders)), seed=0), tmp_path / "other", per_shard=7)
    other = {"root": str(tmp_path / "other"), "manifest": None}
    assert not is_dataset_of(photos, shards, **other)
    restored = restore(photos, moved(shards, **other))
    with pytest.raises(DataError, match=r"25 photographs changed after the run began, first .*other"):
        restored.refuse_changed(with_digests(restored.photos, "raise"))


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


@pytest.mark.parametrize(
    ("names", "expected", "note"),
    [
        (("tern/a.png", "auk/deep/c.png"), [("c.png", "auk"), ("a.png", "tern")], "all of it is evaluated"),
        (("tern/a.png",), [("a.png", "tern")], "all of it is evaluated"),
        (("test/tern/a.png", "test/auk/b.png"), [("b.png", "auk"), ("a.png", "tern")], "its test split"),
        (
            ("test/tern/a.png", "train/tern/b.png", "val/auk/c.png"),
            [("a.png", "tern")],
            "its test split is evaluated, without the photographs of its other splits (2)",
        ),
        (
            ("train/tern/b.png", "val/auk/c.png"),
            [("b.png", "tern"), ("c.png", "auk")],
            "all of it is evaluated, the splits train and validation together",
        ),
        (("Cafe\u0301/a.png",), [("a.png", "Café")], "all of it"),
        (("house  wren\u200b/a.png",), [("a.png", "house wren")], "all of it"),
    ],
)
def test_which_photographs_of_another_set_are_taken(make, names, expected, note):
    found = read(make(*names))
    assert sorted(labels(found)) == sorted(expected)
    assert {sample.split for sample in found.samples} == {"test"}
    assert note in found.notes[0]


def test_what_is_left_out_of_another_set_is_said(make, tmp_path):
    root = make("tern/a.png")
    (tmp_path / "new" / "tern" / "b.txt").write_text("x")
    assert "ignored 1 files that are not photographs" in read(root).notes[1]


def test_another_split_can_be_asked_for_if_the_set_names_it(make):
    root = make("val/tern/a.png", "test/auk/b.png")
    assert labels(read(root, split="validation")) == [("a.png", "tern")]
    with pytest.raises(DataError, match=r"has no train split \(splits: test, validation\)"):
        read(root, split="train")


def test_unknown_classes_are_refused_by_name_with_the_nearest_known_one(make):
    root = make("tern/a.png", "House_Wren/b.png", "zebra/c.png", os.fsdecode(b"f\xe9/d.png"))
    with pytest.raises(DataError, match=r"that the run does not know: 3 of 4 \(") as caught:
        read(root)
    assert "'House_Wren', near 'house wren'; " in str(caught.value)


def test_a_table_is_taken_whole_or_by_its_splits_and_its_paths_start_beside_it(make, tmp_path):
    make("x/a.png", "y/b.png")
    table = tmp_path / "new" / "list.csv"
    table.write_text("path,label\nx/a.png,tern\ny/b.png,auk\n")
    assert labels(read(manifest=str(table))) == [("a.png", "tern"), ("b.png", "auk")]
    shutil.move(table, tmp_path / "list.csv")
    found = read(str(tmp_path / "new"), manifest=str(tmp_path / "list.csv"))
    assert [sample.path for sample in found.samples] == [tmp_path / "new/x/a.png", tmp_path / "new/y/b.png"]
    table.write_text("path,label,split\nx/a.png,tern,test\ny/b.png,auk,train\n")
    assert labels(read(manifest=str(table))) == [("a.png", "tern")]


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
