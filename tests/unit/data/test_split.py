"""Holding photographs out of the training set."""

from collections import Counter
from pathlib import Path
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from mpfgvc.data.samples import SPLITS, Samples
from mpfgvc.data.split import hold_out, with_test

counts = st.lists(st.integers(1, 30), min_size=1, max_size=4)
shares = st.floats(0.01, 0.9)


def dataset(counts: list[int], root: str = "/data", *more: tuple[str, int, str]) -> Samples:
    rows = [(f"{label}/{index}.jpg", label, "train") for label, count in enumerate(counts) for index in range(count)]
    return Samples.of(Path(root), [*rows, *more])


def names(samples: Samples, split: str) -> set[str]:
    return {"/".join(sample.path.parts[-2:]) for sample in samples if sample.split == split}


@given(counts, shares)
def test_each_class_gives_its_share_but_at_least_one_and_never_all(counts, share):
    held = Counter(entry.label for entry in hold_out(dataset(counts), share, 0) if entry.split == "validation")
    for label, count in enumerate(counts):
        expected = 0 if count == 1 else max(1, round(share * count))
        assert held[label] == min(expected, count - 1)


@given(counts, st.integers(0, 9))
def test_neither_the_order_nor_the_place_of_the_files_changes_the_split(counts, seed):
    here, there = dataset(counts), dataset(counts, "/another/disk/data")
    there = there.take(Random(1).sample(range(len(there)), len(there)))
    expected = names(hold_out(here, 0.3, seed), "validation")
    assert names(hold_out(there, 0.3, seed), "validation") == expected


def test_the_split_is_the_same_on_every_platform():
    # The two smallest of `printf "3:0/0.jpg" | sha256sum` and so on, in each class.
    known = {"0/0.jpg", "0/3.jpg", "1/2.jpg", "1/4.jpg"}
    assert names(hold_out(dataset([6, 6]), 0.34, seed=3), "validation") == known


def test_only_training_photographs_are_held_out():
    samples = dataset([10])
    samples.splits[:5] = SPLITS.index("test")
    held = hold_out(samples, 0.4, 0)
    assert [sample.split for sample in held[:5]] == ["test"] * 5
    assert len(names(held, "validation")) == 2


def test_a_dataset_with_a_validation_split_alone_gets_no_test_split_but_a_note():
    samples = dataset([3], "/data", ("v.jpg", 0, "validation"))
    divided, notes = with_test(samples, 0.3, 0)
    assert divided is samples
    assert "no test split" in notes[0]
