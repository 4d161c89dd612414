"""Nearest photographs by the cosine of embeddings."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mpfgvc import ConfigError, DataError
from mpfgvc.inference.embeddings import (
    EmbeddingIndex,
    EmbeddingTable,
    nearest_others,
    read_embeddings,
    write_embeddings,
)


def _table(values: np.ndarray, labels: tuple[str | None, ...] | None = None) -> EmbeddingTable:
    count = len(values)
    return EmbeddingTable(
        paths=tuple(f"{index}.jpg" for index in range(count)),
        labels=labels or (None,) * count,
        splits=(None,) * count,
        values=values.astype(np.float32),
    )


def test_the_nearest_are_those_of_a_plain_loop_over_all_cosines() -> None:
    generator = np.random.default_rng(0)
    values, queries = generator.normal(size=(60, 7)), generator.normal(size=(3, 7)).astype(np.float32)
    found = EmbeddingIndex(_table(values)).nearest(queries, top=5)
    for query, neighbours in zip(queries, found, strict=True):
        cosines = [
            (float(query @ value / np.linalg.norm(query) / np.linalg.norm(value)), f"{index}.jpg")
            for index, value in enumerate(values)
        ]
        best = sorted(cosines, reverse=True)[:5]
        assert [each.path for each in neighbours] == [path for _, path in best]
        assert [each.similarity for each in neighbours] == pytest.approx([c for c, _ in best], abs=1e-6)


def test_of_equally_near_ones_the_first_comes_first_and_there_are_at_most_as_many_as_there_are() -> None:
    index = EmbeddingIndex(_table(np.array([[0, 2.0], [1, 0], [0, 1], [0, 5]])))
    ((*found,),) = index.nearest(np.array([[0, 1]], dtype=np.float32), top=2)
    assert [each.path for each in found] == ["0.jpg", "2.jpg"]
    ((*found,),) = index.nearest(np.array([[0, 1]], dtype=np.float32), top=9)
    assert [each.path for each in found] == ["0.jpg", "2.jpg", "3.jpg", "1.jpg"]


def test_a_class_can_be_asked_for() -> None:
    index = EmbeddingIndex(_table(np.eye(4), ("finch", "wren", None, "finch")))
    ((*found,),) = index.nearest(np.array([[0, 1, 0, 0.5]], dtype=np.float32), label="finch")
    assert [(each.path, each.label) for each in found] == [("3.jpg", "finch"), ("0.jpg", "finch")]
    assert index.nearest(np.ones((1, 4), dtype=np.float32), label="owl") == [[]]


def test_a_file_gives_back_what_was_written(tmp_path: Path) -> None:
    values = np.random.default_rng(1).normal(size=(5, 3))
    written = replace(_table(values, (None, *"xxxx")), model="abc")
    write_embeddings(written, tmp_path / "e.parquet")
    table = read_embeddings(tmp_path / "e.parquet")
    np.testing.assert_array_equal(table.values, written.values)
    assert replace(table, values=written.values) == written
    content = (tmp_path / "e.parquet").read_bytes()
    position = content.index(values[3].astype(np.float32).tobytes()[:4])
    (tmp_path / "e.parquet").write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
    with pytest.raises(DataError, match=r"cannot read .*e\.parquet: .*could not verify page"):
        read_embeddings(tmp_path / "e.parquet")
    write_embeddings(_table(np.zeros((0, 3))), tmp_path / "none.parquet")
    assert read_embeddings(tmp_path / "none.parquet").values.shape == (0, 3)


def test_other_parquet_files_are_refused(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"path": ["a"]}), tmp_path / "other.parquet")
    with pytest.raises(DataError, match="is not a file of mpfgvc embed"):
        read_embeddings(tmp_path / "other.parquet")
    with pytest.raises(ConfigError, match="top must be a whole number of at least 1, got 0"):
        EmbeddingIndex(_table(np.eye(2))).nearest(np.eye(2, dtype=np.float32), top=0)


def test_neighbours_are_the_nearest_by_cosine_and_never_the_photograph_itself() -> None:
    embeddings = np.random.default_rng(0).normal(size=(1500, 7)).astype(np.float32)
    near, cosines = nearest_others(embeddings, 5)
    units = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    expected = units @ units.T
    np.fill_diagonal(expected, -2)
    assert (near == np.argsort(-expected, axis=1)[:, :5]).all()
    np.testing.assert_allclose(cosines, -np.sort(-expected, axis=1)[:, :5], atol=1e-5)
    assert nearest_others(embeddings[:3], 5)[0].shape == (3, 2)
    assert nearest_others(embeddings[:1], 5)[0].shape == (1, 0)


def test_a_flipped_bit_among_the_embeddings_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "e.parquet"
    write_embeddings(_table(np.random.default_rng(1).normal(size=(50, 16))), path)
    content, missed = path.read_bytes(), []
    whole = read_embeddings(path)
    for bit in range(37, 8 * len(content), 997):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            found = read_embeddings(path)
        except DataError:
            continue
        same = np.array_equal(found.values, whole.values) and found.paths == whole.paths
        missed += [] if same and found.labels == whole.labels else [bit]
    assert missed == []
