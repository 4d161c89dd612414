"""The reader and the check on the whole of Oxford Flowers-102."""

from collections import Counter

import pytest

from mpfgvc.config import DataConfig
from mpfgvc.data.catalog import read_photos
from mpfgvc.data.doctor import check, dataset_to_check

pytest.importorskip("scipy.io")


@pytest.fixture(scope="module")
def config(flowers_102):
    return DataConfig(dataset="flowers102", root=str(flowers_102))


def test_the_whole_set_is_read_as_published(config):
    photos = read_photos(config, seed=0)
    assert [len(photos.subset(split)) for split in ("train", "validation", "test")] == [1020, 1020, 6149]
    for split in ("train", "validation"):
        assert set(Counter(sample.label for sample in photos.subset(split)).values()) == {10}
    assert (photos.classes[0], photos.classes[101]) == ("pink primrose", "blackberry lily")
    assert photos.notes == ()


def test_every_photograph_can_be_read_and_two_pairs_are_in_two_splits(config):
    report = check(dataset_to_check(config, seed=0), quick=True)
    assert {each.kind for each in report.findings} == {"in two splits", "duplicate", "unusual shape"}
    assert [leak.splits for leak in report.of("in two splits")] == [("test", "train"), ("test", "validation")]
    assert len(report.of("duplicate")) == 2
