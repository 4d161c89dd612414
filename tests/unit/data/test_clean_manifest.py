"""The manifest without leaks and duplicates."""

import shutil
from pathlib import Path

import pytest

from mpfgvc.config import DataConfig
from mpfgvc.data.doctor import check, dataset_to_check, write_clean_manifest
from mpfgvc.data.readers.tables import read_manifest
from mpfgvc.errors import DataError


def copy(source: Path, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy(source, target))


@pytest.fixture
def dataset(tmp_path: Path, draw) -> Path:
    """Two classes; a leak, a duplicate within training, labels that disagree, a broken file."""
    root = tmp_path / "birds"
    for number in range(3):
        draw(root / "train" / "crow" / f"{number}.png", seed=number)
        draw(root / "train" / "tern" / f"{number}.png", seed=10 + number)
    for name, seed in (("crow", 20), ("tern", 21)):
        draw(root / "test" / name / "t.png", seed=seed)
    copy(root / "test" / "crow" / "t.png", root / "train" / "crow" / "leak.png")
    copy(root / "train" / "crow" / "0.png", root / "train" / "crow" / "again.png")
    copy(root / "train" / "tern" / "1.png", root / "train" / "crow" / "tern1.png")
    (root / "train" / "tern" / "broken.png").write_text("nothing")
    return root


def write(root: Path, out: Path):
    checked = dataset_to_check(DataConfig(root=str(root), validation=0), seed=0)
    return write_clean_manifest(check(checked), checked.photos, root=checked.root, out=out)


def test_the_test_photograph_stays_and_its_copy_in_training_goes(dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "clean.csv"
    fixed = write(dataset, out)
    reasons = {each.path.removeprefix(f"{dataset}/"): each.reason for each in fixed.left_out}
    assert reasons == {
        "train/tern/broken.png": "cannot be read",
        "train/crow/leak.png": f"same picture as {dataset}/test/crow/t.png (test)",
        "train/crow/again.png": f"same picture as {dataset}/train/crow/0.png (train)",
        "train/crow/tern1.png": "labels disagree: crow, tern",
        "train/tern/1.png": "labels disagree: crow, tern",
    }
    photos = read_manifest(out, dataset, test_share=0, seed=0)
    assert fixed.kept == len(photos.samples) == 7
    assert {sample.path.name for sample in photos.subset("test")} == {"t.png"}


def test_what_was_written_is_clean_and_no_photograph_was_touched(dataset: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in dataset.rglob("*.png")}
    out = tmp_path / "clean.csv"
    write(dataset, out)
    manifest = DataConfig(dataset="manifest", manifest=str(out), root=str(dataset), validation=0)
    report = check(dataset_to_check(manifest, seed=0))
    assert report.fine
    assert report.duplicates == ()
    assert {path: path.read_bytes() for path in dataset.rglob("*.png")} == before


def test_a_class_that_would_lose_all_training_photographs_is_refused_and_nothing_is_written(
    tmp_path: Path, draw
) -> None:
    root = tmp_path / "birds"
    for name, seed in (("crow", 1), ("tern", 2)):
        draw(root / "train" / name / "1.png", seed=seed)
        draw(root / "test" / name / "t.png", seed=10 + seed)
    copy(root / "test" / "tern" / "t.png", root / "train" / "tern" / "1.png")
    out = tmp_path / "clean.csv"
    with pytest.raises(DataError, match="every class needs photographs for training, 1 of 2 have none: tern"):
        write(root, out)
    assert not out.exists()


def test_equal_files_with_broken_pixels_are_left_out_as_unreadable(dataset: Path, tmp_path: Path, draw) -> None:
    cut = draw(dataset / "train" / "crow" / "cut.png", seed=30)
    cut.write_bytes(cut.read_bytes()[:200])
    twin = copy(cut, dataset / "train" / "crow" / "twin.png")
    reasons = {entry.path: entry.reason for entry in write(dataset, tmp_path / "clean.csv").left_out}
    assert reasons[str(cut)] == reasons[str(twin)] == "cannot be read"
