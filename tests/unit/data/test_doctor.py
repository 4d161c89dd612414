"""What is found in a dataset, and the manifest without it."""

import json
import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from mpfgvc.config import BirdsConfig, DataConfig
from mpfgvc.data.doctor import check, dataset_to_check, write_clean_manifest
from mpfgvc.data.readers.birds import read_birds
from mpfgvc.data.readers.tables import read_manifest
from mpfgvc.errors import DataError


def checked(root, **settings):
    return dataset_to_check(DataConfig(root=str(root), validation=0, **settings), seed=0)


def found(root, **settings) -> dict[str, list[tuple[str, ...]]]:
    """The photographs, or else the classes, of each finding, by its kind; paths below the root."""
    kinds: dict[str, list[tuple[str, ...]]] = {}
    for finding in check(checked(root), **settings).findings:
        names = [name.removeprefix(f"{root}/") for name in finding.paths or finding.classes]
        kinds.setdefault(finding.kind, []).append(tuple(names))
    return {kind: sorted(names) for kind, names in kinds.items()}


def copy(source: Path, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy(source, target))


@pytest.fixture
def birds(tmp_path):
    """12 drawn birds, crows and terns, in train/ and test/."""
    drawn = read_birds(BirdsConfig(species=2, train=4, test=2, image_size=96))
    for number, sample in enumerate(drawn.samples):
        folder = tmp_path / "birds" / sample.split / ("crow", "tern")[sample.label]
        folder.mkdir(parents=True, exist_ok=True)
        sample.read().save(folder / f"{number % 6 % 4}.png")
    return tmp_path / "birds"


def test_a_sound_dataset_is_fine_and_the_report_is_json(class_folders, draw):
    for seed, path in enumerate(class_folders.rglob("*.png")):
        draw(path, seed=seed, size=(80, 70))
    report = json.loads(json.dumps(check(checked(class_folders)).to_dict()))
    assert (report["fine"], report["classes"]) == (True, 3)
    assert report["counts"] == {"train": 20, "validation": 0, "test": 5}
    assert report["class_counts"] == {"class 1": 5, "class 2": 10, "class 10": 10}
    assert [(each["kind"], each["classes"], each["text"]) for each in report["findings"]] == [
        ("few to train on", ["class 1"], "4"),
        ("note", [], "no split found: 5 of 25 photographs held out for the test"),
    ]


@pytest.mark.parametrize("quick", [False, True])
def test_what_cannot_be_read_is_named_with_its_reason(class_folders, quick):
    cut, text = class_folders / "class 1" / "0.png", class_folders / "class 2" / "3.png"
    cut.write_bytes(cut.read_bytes()[:200])
    text.write_text("not found")
    os.mkfifo(class_folders / "class 2" / "pipe.jpg")
    report = check(checked(class_folders), quick=quick)
    reasons = {Path(each.paths[0]).name: each.text for each in report.of("cannot be read")}
    assert reasons["3.png"] == "it is not an image of a known format"
    assert reasons["pipe.jpg"] == "it is not a regular file"
    assert ("0.png" in reasons) != quick  # its header is whole
    assert report.exit_code == 2


def test_photographs_and_classes_that_stand_out_are_named(class_folders, draw):
    Image.new("RGB", (70, 66), (3, 3, 3)).save(class_folders / "class 1" / "flat.png")
    draw(class_folders / "class 1" / "large.png", seed=901, size=(400, 300))
    draw(class_folders / "class 1" / "wide.png", seed=902, size=(250, 64))
    draw(class_folders / "Class 1" / "new.png", seed=903, size=(70, 80))
    (class_folders / "class 3" / "below").mkdir(parents=True)
    report = found(class_folders)
    assert len(report["very small"]) == 25
    assert report["no contrast"] == [("class 1/flat.png",)]
    assert report["unusual size"] == [("class 1/large.png",)]
    assert report["unusual shape"] == [("class 1/wide.png",)]
    assert report["empty class"] == [("class 3",)]
    assert report["one photograph"] == report["few to train on"] == [("Class 1",)]
    assert report["alike names"] == [("Class 1", "class 1")]
    assert report["class missing"] == [("Class 1",)]  # in the test, for its only photograph is learned from
    notes = [each.text for each in check(checked(class_folders)).of("note")]
    assert "classes that differ only in capitals: Class 1, class 1" in notes
    assert "no contrast" not in found(class_folders, quick=True)


def test_equal_files_are_found_within_and_across_splits_and_classes(birds):
    copy(birds / "train" / "crow" / "1.png", birds / "test" / "crow" / "copy.png")
    for name in ("tern", "crow"):
        copy(birds / "train" / "tern" / "2.png", birds / "train" / name / "copy.png")
    copy(birds / "train" / "crow" / "3.png", birds / "train" / "crow" / "again.png")
    report = found(birds)
    assert report["in two splits"] == [("test/crow/copy.png", "train/crow/1.png")]
    assert report["labels disagree"] == [("train/crow/copy.png", "train/tern/2.png", "train/tern/copy.png")]
    assert report["duplicate"] == [("train/crow/3.png", "train/crow/again.png")]


def test_a_test_is_wrong_by_a_leak_or_by_labels_that_disagree_in_it_but_not_in_training(birds):
    conflict = copy(birds / "train" / "crow" / "2.png", birds / "train" / "tern" / "copy.png")
    assert check(checked(birds)).exit_code == 0
    conflict.unlink()
    held_out = copy(birds / "test" / "crow" / "0.png", birds / "test" / "tern" / "copy.png")
    assert check(checked(birds)).exit_code == 1
    held_out.unlink()
    mirrored = birds / "test" / "crow" / "mirrored.jpg"
    image = Image.open(birds / "train" / "crow" / "2.png")
    image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(mirrored, quality=70)
    report = check(checked(birds))
    (leak,) = report.of("in two splits")
    assert (leak.splits, leak.classes) == (("test", "train"), ("crow",))
    assert (leak.text, report.exit_code) == ("mirrored; splits: test, train; classes: crow", 1)
    assert "in two splits" not in found(birds, quick=True)


def test_files_that_differ_only_in_the_middle_are_equal_for_the_quick_look_and_copies_for_the_whole(class_folders):
    pixels = bytearray(os.urandom(3 * 200 * 200))
    for name in ("a.bmp", "b.bmp"):
        Image.frombytes("RGB", (200, 200), bytes(pixels)).save(class_folders / "class 1" / name)
        pixels[60_000] ^= 1
    for quick, kind in ((False, "copy"), (True, "same file")):
        groups = [each for each in check(checked(class_folders), quick=quick).findings if len(each.paths) > 1]
        assert [(len(group.paths), group.text.partition(";")[0]) for group in groups] == [(2, kind)]


@pytest.fixture
def faulty(tmp_path: Path, draw) -> Path:
    """Two classes; a leak, a duplicate within training, labels that disagree, and files without pixels."""
    root = tmp_path / "birds"
    for number in range(3):
        draw(root / "train" / "crow" / f"{number}.png", seed=number)
        draw(root / "train" / "tern" / f"{number}.png", seed=10 + number)
    for name, seed in (("crow", 20), ("tern", 21)):
        draw(root / "test" / name / "t.png", seed=seed)
    copy(root / "test" / "crow" / "t.png", root / "train" / "crow" / "leak.png")
    copy(root / "train" / "crow" / "0.png", root / "train" / "crow" / "again.png")
    copy(root / "train" / "tern" / "1.png", root / "train" / "crow" / "tern1.png")
    cut = draw(root / "train" / "crow" / "cut.png", seed=30)
    cut.write_bytes(cut.read_bytes()[:200])
    copy(cut, root / "train" / "crow" / "twin.png")
    return root


def test_the_clean_manifest_keeps_the_test_and_no_photograph_is_touched(faulty: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in faulty.rglob("*.png")}
    out, dataset = tmp_path / "clean.csv", checked(faulty)
    left_out = write_clean_manifest(check(dataset), dataset, out)
    assert {path.removeprefix(f"{faulty}/"): reason for path, reason in left_out.items()} == {
        "train/crow/cut.png": "cannot be read",
        "train/crow/twin.png": "cannot be read",
        "train/crow/leak.png": f"same picture as {faulty}/test/crow/t.png (test)",
        "train/crow/again.png": f"same picture as {faulty}/train/crow/0.png (train)",
        "train/crow/tern1.png": "labels disagree: crow, tern",
        "train/tern/1.png": "labels disagree: crow, tern",
    }
    photos = read_manifest(out, faulty, test_share=0, seed=0)
    assert len(photos.samples) == 7
    assert {sample.path.name for sample in photos.subset("test")} == {"t.png"}
    clean = check(checked(faulty, dataset="manifest", manifest=str(out)))
    assert {each.kind for each in clean.findings} == {"very small", "few to train on"}
    assert {path: path.read_bytes() for path in faulty.rglob("*.png")} == before


def test_a_class_that_would_lose_all_training_photographs_is_refused_and_nothing_is_written(birds, tmp_path) -> None:
    for path in (birds / "train" / "tern").iterdir():
        copy(path, birds / "test" / "tern" / f"copy of {path.name}")
    out, dataset = tmp_path / "clean.csv", checked(birds)
    with pytest.raises(DataError, match="every class needs photographs for training, 1 of 2 have none: tern"):
        write_clean_manifest(check(dataset), dataset, out)
    assert not out.exists()
