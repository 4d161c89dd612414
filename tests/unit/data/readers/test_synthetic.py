"""The synthetic birds as a dataset, drawn on the fly and written in CUB's layout."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mpfgvc import OutputError
from mpfgvc.birds.plumage import PARTS
from mpfgvc.config import BirdsConfig, DataConfig
from mpfgvc.data.catalog import read_photos
from mpfgvc.data.readers.birds import read_birds
from mpfgvc.data.synthesize import synthesize

BIRDS = BirdsConfig(species=7, train=3, test=2, image_size=64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("birds") / "set"
    assert synthesize(out, BIRDS) == 35
    return out


def test_the_dataset_has_the_pictures_asked_for() -> None:
    photos = read_photos(DataConfig(dataset="synthetic", birds=BIRDS, validation=0), seed=0)
    assert (len(photos.classes), len(photos.subset("train")), len(photos.subset("test"))) == (7, 21, 14)
    assert photos.supercategory == "bird"


def test_fewer_training_pictures_are_the_first_of_more_and_the_test_stays() -> None:
    few, many = read_birds(BIRDS), read_birds(BirdsConfig(species=7, train=5, test=2, image_size=64))
    assert set(few.subset("train")) < set(many.subset("train"))
    assert list(few.subset("test")) == list(many.subset("test"))
    assert len({sample.index for sample in many.samples}) == len(many.samples)  # no picture is in two splits


def test_the_cub_reader_reads_back_what_was_written(folder: Path) -> None:
    drawn = read_birds(BIRDS)
    read = read_photos(DataConfig(dataset="cub", root=str(folder), validation=0), seed=0)
    assert read.classes == drawn.classes
    assert [(sample.label, sample.split) for sample in read.samples] == [
        (sample.label, sample.split) for sample in drawn.samples
    ]
    for ours, theirs in zip(drawn.samples, read.samples, strict=True):
        assert ours.read().tobytes() == theirs.read().tobytes()


def test_parts_boxes_and_regions_agree(folder: Path) -> None:
    names = [line.split()[1] for line in (folder / "images.txt").read_text().splitlines()]
    locations = np.loadtxt(folder / "parts/part_locs.txt")
    boxes = np.loadtxt(folder / "bounding_boxes.txt")
    assert locations.shape == (35 * len(PARTS), 5)
    for image, part, x, y, visible in locations:
        regions = np.asarray(Image.open(folder / "regions" / names[int(image) - 1]))
        left, top, width, height = boxes[int(image) - 1, 1:]
        assert (regions == part).any() == bool(visible)
        if visible:
            assert left <= x < left + width
            assert top <= y < top + height


def test_every_image_has_one_value_of_each_attribute(folder: Path) -> None:
    names = [line.split()[1] for line in (folder / "attributes/attributes.txt").read_text().splitlines()]
    rows = np.loadtxt(folder / "attributes/image_attribute_labels.txt")
    present = rows[rows[:, 2] == 1]
    assert len(rows) == 35 * len(names)
    for image in range(1, 36):
        held = [names[int(number) - 1].split("::")[0] for number in present[present[:, 0] == image, 1]]
        assert len(held) == len(set(held)) == 14


def test_nothing_is_written_over(folder: Path) -> None:
    with pytest.raises(OutputError, match="exists already"):
        synthesize(folder, BIRDS)


def test_a_failure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OutputError, match="No space left"):
        synthesize(tmp_path / "set", BIRDS)
    assert list(tmp_path.iterdir()) == []
