"""The photographs of a run, found again where the dataset is now."""

import json
import shutil
from dataclasses import replace

import pytest

from mpfgvc.config import DataConfig
from mpfgvc.data.catalog import read_photos
from mpfgvc.data.pack import Pack
from mpfgvc.data.photo_list import PhotoList, photo_digests
from mpfgvc.data.place import dataset_root
from mpfgvc.data.run_photos import is_dataset_of, list_of_run, photos_of_run, restore
from mpfgvc.errors import CheckpointError, DataError
from mpfgvc.files import make_folder, write_with_digest
from mpfgvc.recipes_io import dump_config, load_config
from mpfgvc.run_folder import RunFolder


@pytest.fixture
def config(class_folders):
    return load_config(overrides={"data.root": str(class_folders)})


def list_of(data: DataConfig, *, digests=True, seed=0) -> PhotoList:
    photos = read_photos(data, seed=seed)
    known = photo_digests(sample.path for sample in photos.samples) if digests else {}
    return PhotoList.of(photos, root=dataset_root(data), digests=known)


def test_the_stored_split_is_restored_at_the_place_where_the_dataset_is_now(class_folders, config, tmp_path):
    photo_list = list_of(config.data)
    before = read_photos(config.data, seed=0).samples
    class_folders.rename(tmp_path / "elsewhere")
    restored = restore(photo_list, config.data, root=str(tmp_path / "elsewhere"))
    assert [(s.path.name, s.label, s.split) for s in restored.photos.samples] == [
        (s.path.name, s.label, s.split) for s in before
    ]
    assert all(sample.path.is_file() for sample in restored.photos.samples)
    assert (restored.missing, restored.added, restored.notes) == ((), (), ())


def test_added_photographs_are_in_no_split_and_change_none(class_folders, config, draw):
    photo_list = list_of(config.data)
    for index in range(30):
        draw(class_folders / "class 1" / f"new {index}.png", seed=900 + index)
    drawn_again = read_photos(config.data, seed=0)
    restored = restore(photo_list, config.data)
    assert list_of(config.data).subset("test") != photo_list.subset("test")  # what would happen otherwise
    assert {s.path for s in restored.photos.subset("test")} == {
        photo.at(class_folders) for photo in photo_list.subset("test")
    }
    assert len(drawn_again.samples) - len(restored.photos.samples) == len(restored.added) == 30
    assert restored.added[0] == "class 1/new 0.png"
    assert restored.notes[0].endswith(
        "left out: 30 (class 1/new 0.png, class 1/new 1.png, class 1/new 2.png, ...)"
    )


def test_a_new_class_in_the_dataset_changes_no_label(class_folders, config, draw):
    photo_list = list_of(config.data)
    draw(class_folders / "class 0" / "0.png", seed=77)
    restored = restore(photo_list, config.data)
    assert restored.photos.classes == ("class 1", "class 2", "class 10")
    assert restored.added == ("class 0/0.png",)


def test_missing_photographs_are_named_and_left_out_of_what_is_found(class_folders, config):
    photo_list = list_of(config.data)
    gone = [photo for photo in photo_list.photographs if photo.split == "test"][:2]
    for photo in gone:
        photo.at(class_folders).unlink()
    restored = restore(photo_list, config.data)
    assert restored.missing == tuple(photo.path for photo in gone)
    assert len(restored.found("test")) == len(photo_list.subset("test")) - 2
    assert len(restored.photos.samples) == 25
    assert f"that are missing: 2 of 25 ({gone[0].path}" in restored.notes[0]
    with pytest.raises(DataError, match=r"that are missing in .*: 2 of 25 \("):
        restored.refuse_missing()


def test_a_dataset_of_which_nothing_is_there_is_refused(class_folders, config, tmp_path):
    photo_list = list_of(config.data)
    with pytest.raises(DataError, match=r"none of the 25 photographs of the run is in .*nowhere"):
        restore(photo_list, config.data, root=str(tmp_path / "nowhere"))


def test_a_dataset_that_cannot_be_listed_now_is_a_note(class_folders, config):
    photo_list = list_of(config.data)
    (class_folders / "empty class").mkdir()
    restored = restore(photo_list, config.data)
    assert restored.added == ()
    assert "the dataset cannot be read as it is now" in restored.notes[0]


def test_changed_photographs_are_known_by_their_digests(class_folders, config, draw):
    photo_list = list_of(config.data)
    path = draw(class_folders / "class 2" / "3.png", seed=12345)
    restored = restore(photo_list, config.data)
    now = photo_digests(sample.path for sample in restored.photos.samples)
    assert [sample.path for sample in restored.changed(restored.photos.samples, now)] == [path]


def test_synthetic_birds_are_drawn_again_and_compared():
    config = load_config(
        overrides={
            "data.dataset": "synthetic",
            "data.birds.species": 4,
            "data.birds.train": 3,
            "data.birds.test": 2,
        }
    )
    photo_list = list_of(config.data)
    restored = restore(photo_list, config.data)
    drawn = read_photos(config.data, seed=0)
    assert restored.photos.samples == drawn.samples
    assert restored.photos.supercategory == "bird"
    assert restored.photos.samples[0].read().size == (96, 96)
    with pytest.raises(CheckpointError, match="other synthetic birds"):
        restore(photo_list, config.data.replaced(birds=config.data.birds.replaced(species=5)))


def write_manifest(path, root, *, folder=""):
    rows = [
        f"{folder}{each.relative_to(root).as_posix()},{each.parent.name}"
        for each in sorted(root.rglob("*.png"))
    ]
    path.write_text("\n".join(["path,label", *rows]) + "\n")


def test_a_manifest_may_move_with_or_without_its_photographs(class_folders, tmp_path):
    write_manifest(tmp_path / "photos.csv", class_folders, folder="birds/")
    config = load_config(
        overrides={"data.dataset": "manifest", "data.manifest": str(tmp_path / "photos.csv")}
    )
    photo_list = list_of(config.data)
    assert photo_list.photographs[0].path.startswith("birds/class 1/")
    (tmp_path / "new").mkdir()
    for name in ("photos.csv", "birds"):
        (tmp_path / name).rename(tmp_path / "new" / name)
    for place in (
        {"root": str(tmp_path / "new"), "manifest": None},
        {"root": None, "manifest": str(tmp_path / "new" / "photos.csv")},
    ):
        assert is_dataset_of(photo_list, config.data, **place)
        assert restore(photo_list, config.data, **place).missing == ()


def test_a_table_of_other_photographs_is_not_the_dataset_though_all_lie_below_one_root(
    class_folders, tmp_path
):
    write_manifest(tmp_path / "photos.csv", class_folders)
    settings = {"manifest": str(tmp_path / "photos.csv"), "root": str(class_folders)}
    config = load_config(
        overrides={"data.dataset": "manifest", **{f"data.{key}": value for key, value in settings.items()}}
    )
    photo_list = list_of(config.data)
    (tmp_path / "other.csv").write_text("path,label\nclass 1/0.png,class 1\n")
    assert is_dataset_of(photo_list, config.data, root=None, manifest=settings["manifest"])
    assert not is_dataset_of(photo_list, config.data, root=None, manifest=str(tmp_path / "other.csv"))


@pytest.mark.parametrize(("kept", "expected"), [(3, True), (2, False)])
def test_at_least_half_of_the_test_photographs_make_it_the_same_dataset(
    class_folders, config, tmp_path, kept, expected
):
    photo_list = list_of(config.data)
    test = photo_list.subset("test")
    assert len(test) == 5
    for photo in test[:kept]:
        target = photo.at(tmp_path / "copy")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(photo.at(class_folders), target)
    assert is_dataset_of(photo_list, config.data, root=str(tmp_path / "copy"), manifest=None) is expected


def test_other_photographs_under_the_same_names_are_another_dataset_if_digests_are_known(
    class_folders, config, tmp_path, draw
):
    for index, photo in enumerate(list_of(config.data).photographs):
        draw(photo.at(tmp_path / "other"), seed=500 + index)
    place = {"root": str(tmp_path / "other"), "manifest": None}
    assert not is_dataset_of(list_of(config.data), config.data, **place)
    assert is_dataset_of(list_of(config.data, digests=False), config.data, **place)


def start_run(folder, config, photo_list=None):
    run = RunFolder(folder)
    make_folder(folder)
    write_with_digest(run.config, dump_config(config).encode())
    if photo_list is not None:
        photo_list.save(run.photographs)
    return run


def test_the_photographs_of_a_run_are_those_that_it_stored(class_folders, config, tmp_path):
    run = start_run(tmp_path / "run", config, list_of(config.data, seed=3))
    assert photos_of_run(run).photos.subset("test") == read_photos(config.data, seed=3).subset("test")
    class_folders.rename(tmp_path / "moved")
    assert photos_of_run(run, root=str(tmp_path / "moved")).missing == ()


def test_for_an_older_run_the_split_is_drawn_again_and_a_note_says_so(class_folders, config, tmp_path):
    run = start_run(tmp_path / "run", config)
    restored = photos_of_run(run)
    assert restored.photos.samples == read_photos(config.data, seed=0).samples
    assert "does not store its split" in restored.notes[0]
    class_folders.rename(tmp_path / "moved")
    moved = photos_of_run(run, root=str(tmp_path / "moved"))
    assert [s.split for s in moved.photos.samples] == [s.split for s in restored.photos.samples]
    with pytest.raises(DataError, match=r"data\.root must be a folder"):
        list_of_run(run, config)


@pytest.fixture
def shards(class_folders, tmp_path):
    """The settings of the same photographs, packed without a validation split."""
    photos = read_photos(DataConfig(root=str(class_folders), validation=0), seed=0)
    Pack(out=tmp_path / "shards", root=class_folders, per_shard=7).write(photos)
    return DataConfig(dataset="shards", root=str(tmp_path / "shards"))


def facts(photographs):
    return [(each.path, each.label, each.split, each.digest) for each in photographs]


def test_a_run_on_shards_stores_their_index_with_its_own_splits(shards, tmp_path):
    photo_list, photos = list_of(shards), read_photos(shards, seed=0)
    assert len(photo_list.subset("validation")) > 0
    photo_list.save(tmp_path / "photographs.json")
    stored = PhotoList.load(tmp_path / "photographs.json")
    assert facts(stored.photographs) == facts(photo_list.photographs)
    assert [each.at(tmp_path / "shards") for each in stored.photographs] == [s.path for s in photos.samples]
    assert {each.digest for each in stored.photographs} == set(
        photo_digests(sample.path for sample in photos.samples).values()
    )
    for split in ("train", "validation", "test"):
        assert facts(stored.subset(split)) == [row for row in facts(stored.photographs) if row[2] == split]
    assert stored.fingerprint() == photo_list.fingerprint() != list_of(shards, seed=1).fingerprint()
    assert (tmp_path / "photographs.idx").stat().st_size == 25 * 42


def test_the_shards_of_a_run_are_found_where_they_are_now_and_no_others(shards, class_folders, tmp_path):
    list_of(shards, seed=3).save(tmp_path / "photographs.json")
    photo_list = PhotoList.load(tmp_path / "photographs.json")
    before = [(each.path.name, each.split) for each in read_photos(shards, seed=3).samples]
    (tmp_path / "shards").rename(tmp_path / "new")
    place = {"root": str(tmp_path / "new"), "manifest": None}
    assert is_dataset_of(photo_list, shards, **place)
    restored = restore(photo_list, shards, **place)
    assert [(each.path.name, each.split) for each in restored.photos.samples] == before
    assert (restored.missing, restored.added, restored.notes) == ((), (), ())
    assert restored.found("train")[0].read().size == (40, 30)
    digests = {each.path: restored.digest_of(each) for each in restored.photos.samples}
    assert digests == photo_digests(digests)
    Pack(out=tmp_path / "other", root=class_folders, per_shard=8).write(read_photos(shards_at(place), seed=0))
    other = {"root": str(tmp_path / "other"), "manifest": None}
    assert not is_dataset_of(photo_list, shards, **other)
    for elsewhere in (other, {"root": None, "manifest": None}):
        with pytest.raises(DataError, match=r"the shards of the run are not in .*; put those back, or say"):
            restore(photo_list, shards, **elsewhere)


def shards_at(place):
    return DataConfig(dataset="shards", root=place["root"])


def test_a_list_that_an_older_version_wrote_of_shards_is_restored_with_their_places(shards):
    photos = read_photos(shards, seed=3)
    objects = replace(photos, samples=tuple(photos.samples))
    digests = photo_digests(sample.path for sample in objects.samples)
    older = PhotoList.of(objects, root=dataset_root(shards), digests=digests)
    assert '"photographs": [' in older.to_json()
    restored = restore(older, shards)
    assert restored.photos.samples == objects.samples
    assert [restored.digest_of(each) for each in objects.samples] == list(digests.values())


@pytest.mark.parametrize("damage", ["flip", "remove"])
def test_a_stored_index_that_is_damaged_is_refused(shards, tmp_path, damage):
    list_of(shards).save(tmp_path / "photographs.json")
    file = tmp_path / "photographs.idx"
    content = bytearray(file.read_bytes())
    content[20] ^= 255
    file.write_bytes(content) if damage == "flip" else file.unlink()
    with pytest.raises(CheckpointError, match=r"photographs\.idx") as caught:
        PhotoList.load(tmp_path / "photographs.json")
    assert "\n" not in str(caught.value)


def test_a_list_without_its_index_says_which_file_is_gone(shards, tmp_path):
    list_of(shards).save(tmp_path / "photographs.json")
    for name in ("photographs.idx", "digests.json"):
        (tmp_path / name).unlink()
    with pytest.raises(CheckpointError, match=r"photographs\.idx does not exist; restore it beside photog"):
        PhotoList.load(tmp_path / "photographs.json")


def test_class_names_are_those_that_the_run_stored_whatever_the_shards_say_now(shards, tmp_path):
    list_of(shards).save(tmp_path / "photographs.json")
    photo_list, file = PhotoList.load(tmp_path / "photographs.json"), tmp_path / "shards" / "shards.json"
    document = json.loads(file.read_text())
    file.write_text(json.dumps(document | {"classes": document["classes"][::-1], "name": "other"}))
    restored = restore(photo_list, shards)
    assert (restored.photos.classes, restored.photos.name) == (photo_list.classes, photo_list.dataset)
    assert photo_list.classes == ("class 1", "class 2", "class 10")


def test_the_same_photographs_in_shards_of_other_names_are_not_those_of_the_run(shards, tmp_path):
    photo_list = list_of(shards)
    renamed = replace(read_photos(shards.replaced(validation=0), seed=0), name="renamed")
    Pack(out=tmp_path / "renamed", root=tmp_path / "shards", per_shard=7).write(renamed)
    assert (tmp_path / "renamed" / "renamed-000000.tar").is_file()
    assert not is_dataset_of(photo_list, shards, root=str(tmp_path / "renamed"), manifest=None)
