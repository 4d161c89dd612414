"""The samples of packed shards without their objects: the same ones, at any place, in little memory."""

import pickle
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from mpfgvc.data.readers.shards import read_shards
from mpfgvc.data.samples import CHUNK, PhotoSet, class_counts, labels_at
from mpfgvc.data.shard_index import (
    INDEX,
    ROWS,
    SPLITS,
    Layout,
    ShardFile,
    ShardSample,
    index_digest,
    save_index,
)
from mpfgvc.data.shard_table import ShardTable, shard_ends
from mpfgvc.data.split import hold_out, single_notes
from mpfgvc.data.tars import Member

COUNT, PER_SHARD, CLASSES = 3 * CHUNK + 77, 1000, 50


def index_of(folder: Path, *, count: int = COUNT, version: int = 2) -> PhotoSet:
    """A dataset whose shards hold nothing."""
    random = np.random.default_rng(0)
    rows, places = np.zeros(count, ROWS[version]), np.arange(count)
    rows["number"], rows["shard"], rows["size"] = places, places // PER_SHARD, random.integers(1, 9, count)
    rows["offset"], rows["label"] = places % PER_SHARD * 512, random.integers(0, CLASSES, count)
    rows["split"], rows["suffix"] = random.choice(3, count, p=(0.9, 0.0, 0.1)), places % 2
    if version > 1:
        rows["digest"] = random.integers(0, 256, (count, 16))
    starts = range(0, count, PER_SHARD)
    layout = Layout(
        name="many",
        classes=tuple(f"class {number}" for number in range(CLASSES)),
        supercategory=None,
        size=None,
        suffixes=(".jpg", ".png"),
        shards=tuple(
            ShardFile(name=f"x-{start}.tar", bytes=0, photographs=min(PER_SHARD, count - start))
            for start in starts
        ),
        index_digest=index_digest(rows),
        format=version,
    )
    folder.mkdir()
    for shard in layout.shards:
        (folder / shard.name).touch()
    save_index(folder, layout, rows)
    return read_shards(folder, test_share=0, seed=0)


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> PhotoSet:
    return index_of(tmp_path_factory.mktemp("table") / "many")


@pytest.fixture(scope="module")
def expected(photos) -> tuple[ShardSample, ...]:
    """The samples, made from the bytes of the index."""
    folder = photos.samples.folder
    rows = np.frombuffer((folder / INDEX).read_bytes(), ROWS[2])
    return tuple(
        ShardSample(
            path=folder
            / f"x-{row['shard'] * PER_SHARD}.tar!{row['number']:09d}{('.jpg', '.png')[row['suffix']]}",
            label=int(row["label"]),
            split=SPLITS[row["split"]],
            member=Member(int(row["offset"]), int(row["size"])),
            digest=row["digest"].tobytes().hex(),
        )
        for row in rows
    )


@pytest.mark.parametrize("split", [None, "train", "validation", "test"])
def test_a_table_is_the_sequence_of_its_samples(photos, expected, split):
    table = photos.samples if split is None else photos.subset(split)
    samples = [each for each in expected if split in (None, each.split)]
    assert list(table) == samples
    assert len(table) == len(samples)
    assert table[-7:] == tuple(samples[-7:])
    assert table[CHUNK - 3 : CHUNK + 500 : 100] == tuple(samples[CHUNK - 3 : CHUNK + 500 : 100])
    for place in {0, -1, len(samples) - 1, CHUNK - 1, CHUNK} & set(range(-len(samples), len(samples))):
        assert table[place] == samples[place]
    for place in (len(samples), -len(samples) - 1):
        with pytest.raises(IndexError):
            table[place]


def test_labels_and_names_are_those_of_the_samples_in_any_order(photos):
    train = photos.subset("train")
    places = [9000, 3, 3, len(train) - 1, CHUNK]
    assert labels_at(train, places).tolist() == [train[place].label for place in places]
    assert labels_at(train, []).tolist() == []
    names = train.names_at(range(CHUNK - 2, CHUNK + 2))
    assert names == [each.path.name for each in train[CHUNK - 2 : CHUNK + 2]]
    counts = Counter(each.label for each in train)
    assert class_counts(train, CLASSES).tolist() == [counts[label] for label in range(CLASSES)]


def test_held_out_photographs_are_those_of_the_same_samples_as_objects(photos):
    whole = tuple(photos.samples)
    for share in (0.1, 0.0001):
        table = hold_out(photos.samples, share, seed=4)
        assert tuple(table) == hold_out(whole, share, seed=4)
        assert isinstance(table, ShardTable)
    assert tuple(photos.samples) == whole
    assert single_notes(photos.samples, photos.classes, "test") == single_notes(whole, photos.classes, "test")


def test_a_pickled_table_is_small_and_shows_the_same(photos):
    train = hold_out(photos.samples, 0.1, seed=4).subset("train")
    _ = train.rows
    content = pickle.dumps(train)
    assert len(content) < COUNT + 10_000  # a byte a photograph for the splits that were drawn
    assert len(pickle.dumps(photos.samples)) < 10_000
    assert tuple(pickle.loads(content)) == tuple(train)  # noqa: S301


def test_the_photographs_of_a_shard_stand_together(photos):
    for samples in (photos.subset("train"), tuple(photos.subset("train"))):
        ends = shard_ends(samples).tolist()
        shards = [each.path.name.partition("!")[0] for each in samples]
        assert ends == [place for place in range(1, len(shards)) if shards[place] != shards[place - 1]] + [
            len(shards)
        ]


def test_a_pack_of_the_first_format_is_read_without_digests(tmp_path):
    samples = index_of(tmp_path / "old", count=3000, version=1).samples
    assert (tmp_path / "old" / INDEX).stat().st_size == 26 * 3000
    assert {each.digest for each in samples} == {""}
    assert samples[2999].path.name == "x-2000.tar!000002999.png"


def test_a_table_is_read_and_shown_in_a_fraction_of_the_memory_of_objects(tmp_path):
    count = 40 * CHUNK
    folder = tmp_path / "large"
    index_of(folder, count=count)
    tracemalloc.start()
    photos = read_shards(folder, test_share=0, seed=0)
    train = photos.subset("train")
    total = sum(each.label >= 0 for each in train)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == len(train) > 0.85 * count
    assert peak < 100 * count  # as objects they take 800 bytes each; most of this are Python's own tables
