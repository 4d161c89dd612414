"""The report on a dataset."""

import json
import os
import shutil

from PIL import Image

from mpfgvc.config import DataConfig
from mpfgvc.data.catalog import read_photos
from mpfgvc.data.doctor import check_dataset, check_photos


def check(root, **settings):
    return check_dataset(DataConfig(root=str(root), validation=0), seed=0, **settings)


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


def test_files_that_differ_only_in_the_middle_are_equal_for_the_quick_look_and_copies_for_the_whole(
    class_folders,
):
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
    assert "it is a FIFO, not a regular file" in report.broken[0].reason
