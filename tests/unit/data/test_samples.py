"""What holds for every dataset."""

from pathlib import Path

import pytest

from mpfgvc.data.listing import natural_key
from mpfgvc.data.samples import PhotoSet, Sample
from mpfgvc.errors import DataError


def sample(label: int, split: str = "train") -> Sample:
    return Sample(path=Path(f"{label}-{split}.jpg"), label=label, split=split)  # type: ignore[arg-type]


def test_a_subset_holds_one_split_in_order():
    photos = PhotoSet(name="birds", classes=("a", "b"), samples=(sample(1), sample(0, "test"), sample(0)))
    assert [entry.label for entry in photos.subset("train")] == [1, 0]
    assert photos.subset("validation") == ()


@pytest.mark.parametrize(
    ("classes", "samples", "message"),
    [
        (("a", "a"), (sample(0), sample(1)), "got 2 classes named 'a'"),
        (("a", "b"), (), "found no photographs"),
        (("a", "b", "c"), (sample(0), sample(1, "test")), "2 of 3 have none: b, c"),
    ],
)
def test_a_dataset_that_breaks_a_rule_is_refused(classes, samples, message):
    with pytest.raises(DataError, match=message):
        PhotoSet(name="birds", classes=classes, samples=samples)


def test_numbers_in_names_sort_as_numbers():
    names = ["b", "class 10", "Class 2", "class 02", "1"]
    assert sorted(names, key=natural_key) == ["1", "b", "Class 2", "class 02", "class 10"]
