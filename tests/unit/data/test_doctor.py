"""The report on a dataset."""

import json
import os
import shutil

import pytest
from PIL import Image

from mpfgvc.config import BirdsConfig, DataConfig
from mpfgvc.data import doctor
from mpfgvc.data.catalog import read_photos
from mpfgvc.data.doctor import check_photos
from mpfgvc.data.readers.birds import read_birds


def check(root, **settings):
    return doctor.check(doctor.dataset_to_check(DataConfig(root=str(root), validation=0), seed=0), **settings)


@pytest.fixture
def class_folders_with_birds(tmp_path):
    """12 drawn birds, crows and terns, in train/ and test/, and the path of one for training."""
    drawn = read_birds(BirdsConfig(species=2, train=4, test=2, image_size=96))
    for number, sample in enumerate(drawn.samples):
        folder = tmp_path / sample.split / ("crow", "tern")[sample.label]
        folder.mkdir(parents=True, exist_ok=True)
        sample.read().save(folder / f"{number % 6 % 4}.png")
    return tmp_path, tmp_path / "train" / "crow" / "2.png"


def test_a_sound_dataset_is_fine(class_folders):
    report = check(class_folders)
    assert report.fine
    assert report.counts == {"train": 20, "validation": 0, "test": 5}
    assert (report.smallest.name, report.smallest.count, report.largest.count) == ("class 1", 5, 10)
    assert (report.broken, report.duplicates, report.single) == ((), (), ())


def test_broken_photographs_are_listed_with_their_reason(class_folders):
    cut, text = class_folders / "class 1" / "0.png", class_folders / "class 2" / "3.png"
    cut.write_bytes(cut.read_bytes()[:200])
    text.write_text("not found")
    report = check(class_folders)
    assert not report.fine
    assert {entry.path for entry in report.broken} == {str(cut), str(text)}
    assert any("not an image of a known format" in entry.reason for entry in report.broken)
    quick = check(class_folders, quick=True)
    assert [entry.path for entry in quick.broken] == [str(text)]  # the header of the other is whole


def test_equal_files_are_found_within_and_across_splits_and_classes(tmp_path, draw):
    first = draw(tmp_path / "train" / "crow" / "1.png", seed=1)
    second = draw(tmp_path / "train" / "tern" / "2.png", seed=2)
    draw(tmp_path / "test" / "crow" / "3.png", seed=3)
    shutil.copy(first, tmp_path / "test" / "crow" / "copy.png")
    shutil.copy(second, tmp_path / "train" / "tern" / "copy.png")
    shutil.copy(second, tmp_path / "train" / "crow" / "copy.png")
    report = check(tmp_path)
    leak, other = sorted(report.duplicates, key=lambda duplicate: not duplicate.leaks)
    assert report.leaks == (leak,)
    assert (leak.splits, leak.classes, len(leak.paths)) == (("test", "train"), ("crow",), 2)
    assert (other.splits, other.classes, len(other.paths)) == (("train",), ("crow", "tern"), 3)
    assert not report.fine


def test_small_photographs_and_single_ones_are_named(class_folders, draw):
    large = draw(class_folders / "rare" / "1.png", size=(64, 70))
    report = check(class_folders)
    assert report.single == ("rare",)
    assert len(report.small) == 25
    assert str(large) not in report.small


def test_the_report_is_json(class_folders):
    report = json.loads(json.dumps(check(class_folders, quick=True).to_dict()))
    assert report["fine"] is True
    assert report["counts"]["train"] == 20
    assert report["leaks"] == []


def test_flat_photographs_are_named_unless_only_headers_are_read(class_folders):
    flat = class_folders / "class 1" / "black.png"
    Image.new("RGB", (70, 66), (3, 3, 3)).save(flat)
    report = check(class_folders)
    assert report.flat == (str(flat),)
    assert report.fine
    assert check(class_folders, quick=True).flat == ()


def test_files_that_differ_only_in_the_middle_are_equal_for_the_quick_look_and_copies_for_the_whole(class_folders):
    pixels = bytearray(os.urandom(3 * 200 * 200))
    for name in ("a.bmp", "b.bmp"):
        Image.frombytes("RGB", (200, 200), bytes(pixels)).save(class_folders / "class 1" / name)
        pixels[60_000] ^= 1
    for quick, kind in ((False, "copy"), (True, "same file")):
        (found,) = check(class_folders, quick=quick).duplicates
        assert [path[-5:] for path in found.paths] == ["a.bmp", "b.bmp"]
        assert found.kinds == (kind,)


def test_a_set_of_photographs_is_checked_as_it_is(class_folders, draw):
    draw(class_folders / "Class 1" / "new.png", seed=999)
    os.mkfifo(class_folders / "class 2" / "pipe.jpg")
    photos = read_photos(DataConfig(root=str(class_folders), validation=0), seed=3)
    report = check_photos(photos)
    assert report.counts == {split: len(photos.subset(split)) for split in ("train", "validation", "test")}
    assert "classes that differ only in capitals: Class 1, class 1" in report.notes
    assert "it is not a regular file" in report.broken[0].reason


def test_copies_that_are_not_equal_files_are_found_across_splits(class_folders_with_birds):
    root, original = class_folders_with_birds
    mirrored = root / "test" / "crow" / "mirrored.jpg"
    Image.open(original).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(mirrored, quality=70)
    report = check(root)
    (leak,) = report.leaks
    assert set(leak.paths) == {str(original), str(mirrored)}
    assert (leak.splits, leak.kinds) == (("test", "train"), ("mirrored",))
    assert (report.fine, report.falsifies, report.exit_code) == (False, True, 1)
    assert check(root, quick=True).duplicates == ()


def test_labels_that_disagree_within_training_falsify_no_test_but_within_the_test_they_do(class_folders_with_birds):
    root, original = class_folders_with_birds
    shutil.copy(original, root / "train" / "tern" / "copy.png")
    report = check(root)
    (conflict,) = report.conflicts
    assert conflict.classes == ("crow", "tern")
    assert (report.falsifies, report.exit_code) == (False, 0)
    test = root / "test" / "crow" / "0.png"
    shutil.copy(test, root / "test" / "tern" / "copy.png")
    assert check(root).exit_code == 1


def test_empty_class_folders_are_named_and_the_rest_is_checked(class_folders):
    empty = class_folders / "class 3"
    (empty / "below").mkdir(parents=True)
    report = check(class_folders)
    assert report.empty == (str(empty),)
    assert (report.classes, report.exit_code) == (3, 2)


def test_classes_with_few_training_photographs_and_alike_names_are_named(class_folders, draw):
    for seed, name in enumerate(("Class 1", "classes 1")):
        draw(class_folders / name / "1.png", seed=900 + seed)
    report = check(class_folders)
    assert {each.name: each.count for each in report.few} == {"class 1": 4, "Class 1": 1, "classes 1": 1}
    assert [set(group) for group in report.similar_names] == [{"class 1", "Class 1", "classes 1"}]


def test_unusual_sizes_and_shapes_are_named(class_folders, draw):
    large = draw(class_folders / "class 1" / "large.png", seed=901, size=(400, 300))
    wide = draw(class_folders / "class 1" / "wide.png", seed=902, size=(90, 20))
    report = check(class_folders)
    assert [each.path for each in report.sizes] == [str(large)]
    assert [each.path for each in report.shapes] == [str(wide)]
