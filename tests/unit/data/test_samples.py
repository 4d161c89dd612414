"""What holds for every dataset."""

from pathlib import Path

import pytest

from mpfgvc.data.listing import natural_key
from mpfgvc.data.samples import PhotoSet, Samples
from mpfgvc.errors import DataError


def made(*rows):
    return Samples.of(Path("birds"), [(f"{label}-{split}.jpg", label, split) for label, split in rows])


def test_a_subset_holds_one_split_in_order():
    samples = made((1, "train"), (0, "test"), (0, "train"))
    photos = PhotoSet(name="birds", classes=("a", "b"), samples=samples)
    assert [entry.path for entry in photos.subset("train")] == [Path(f"birds/{n}-train.jpg") for n in (1, 0)]
    assert photos.subset("train").labels.tolist() == [1, 0]
    assert len(photos.subset("validation")) == 0
    assert samples.counts(3).tolist() == [2, 1, 0]
    assert [entry.label for entry in samples[1:]] == [0, 0]
    with pytest.raises(IndexError):
        samples[3]


@pytest.mark.parametrize(
    ("classes", "samples", "message"),
    [
        (("a", "a"), [(0, "train"), (1, "train")], "got 2 classes named 'a'"),
        (("a", "b"), [], "found no photographs"),
        (("a", "b", "c"), [(0, "train"), (1, "test")], "2 of 3 have none: b, c"),
    ],
)
def test_a_dataset_that_breaks_a_rule_is_refused(classes, samples, message):
    with pytest.raises(DataError, match=message):
        PhotoSet(name="birds", classes=classes, samples=made(*samples))


def test_numbers_in_names_sort_as_numbers():
    names = ["b", "class 10", "Class 2", "class 02", "1"]
    assert sorted(names, key=natural_key) == ["1", "b", "Class 2", "class 02", "class 10"]
