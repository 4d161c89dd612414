"""`mpfgvc embed` and `mpfgvc search`: embeddings in a file, and the photographs that are nearest by them."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cosine_similarity

from mpfgvc import DataError, Predictor
from mpfgvc.inference.embeddings import index_for, read_embeddings

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of a finished run, for what is written into it."""
    copy = tmp_path / "run"
    shutil.copytree(finished, copy)
    return copy


def test_an_embedding_is_what_the_network_makes_of_the_photograph(finished: Path, photos: Path) -> None:
    predictor = Predictor.from_pretrained(finished)
    files = sorted((photos / "test" / "disc").iterdir())
    alone, together = torch.from_numpy(predictor.embed(files[0])), torch.from_numpy(predictor.embed(files))
    pixels = torch.from_numpy(np.stack([predictor.prepare(predictor.open(file)) for file in files]))
    with torch.inference_mode():
        expected = predictor.inference.network.image_encoder(pixels).embedding
    assert alone.shape == (predictor.backend.width,)
    torch.testing.assert_close(together, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(alone, expected[0], atol=1e-5, rtol=0)
    streamed = [each.embedding for each in predictor.embed_files(files, batch_size=2)]
    torch.testing.assert_close(torch.tensor(np.stack(streamed)), expected, atol=1e-5, rtol=0)  # type: ignore[arg-type]


def test_a_run_embeds_all_its_photographs_with_class_and_split(cli: Cli, run: Path, photos: Path) -> None:
    code, stdout, _ = cli("embed", run, "--json")
    table = read_embeddings(run / "embeddings.parquet")
    assert code == 0
    assert json.loads(stdout) == {"embeddings": str(run / "embeddings.parquet"), "count": 48, "unreadable": []}
    assert len(table) == 48
    assert {(split, table.splits.count(split)) for split in table.splits} == {
        ("train", 27),
        ("validation", 6),
        ("test", 15),
    }
    first = Path(table.paths[0])
    assert (first.parent.name, first.parent.parent.name) == (table.labels[0], "train")
    expected = Predictor.from_pretrained(run).embed(first)
    np.testing.assert_allclose(table.values[0], expected, atol=1e-5)


def test_search_finds_the_photograph_itself_first_and_orders_by_cosine(cli: Cli, run: Path, photos: Path) -> None:
    cli("embed", run)
    query = photos / "test" / "stripe" / "3.png"
    code, stdout, _ = cli("search", run, query, "--top", 4, "--json")
    (document,) = json.loads(stdout)
    assert code == 0
    assert document["path"] == str(query)
    nearest = document["nearest"]
    assert (nearest[0]["path"], nearest[0]["label"]) == (str(query), "stripe")
    assert nearest[0]["similarity"] == pytest.approx(1, abs=1e-5)
    predictor = Predictor.from_pretrained(run)
    table = read_embeddings(run / "embeddings.parquet")
    cosines = cosine_similarity(torch.from_numpy(predictor.embed(query))[None], torch.tensor(table.values))
    assert [each["similarity"] for each in nearest] == pytest.approx(cosines.topk(4).values.tolist(), abs=1e-5)
    code, stdout, _ = cli("search", run, query, "--top", 1)
    assert stdout.splitlines() == [str(query), f"  1.000  stripe  {query}"]


def test_what_cannot_be_read_is_left_out_and_counted(cli: Cli, run: Path, photos: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "new", tmp_path / "new.parquet"
    folder.mkdir()
    shutil.copy(photos / "test" / "disc" / "0.png", folder / "a.png")
    (folder / "b.png").write_bytes(b"no picture")
    code, stdout, stderr = cli("embed", run, folder, "-o", out)
    assert code == 2
    assert stdout == f"embeddings  {out}, 1 photographs\n"
    assert "photographs that cannot be read, left out: 1 of 2" in stderr
    assert read_embeddings(out).labels == (None,)


def test_embeddings_of_another_model_are_refused(cli: Cli, run: Path, tmp_path: Path) -> None:
    cli("embed", run)
    other = tmp_path / "other"
    shutil.copytree(run, other)
    digest = other / "model" / "digests.json"
    digest.unlink()
    predictor = Predictor.from_pretrained(other)
    with pytest.raises(DataError, match=r"holds embeddings of another model, which cannot be compared; make it"):
        index_for(predictor, run / "embeddings.parquet")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["embed", "RUN", "photo.png"], "--out must name a file for the embeddings"),
        (["embed", "RUN/model"], "is not a run folder, it has no photographs; name some photographs"),
        (["search", "RUN", "PHOTO"], "there are no embeddings to search: .* make it with mpfgvc embed"),
        (["search", "RUN", "PHOTO", "--in", "PHOTO"], r"cannot read .*png: .*; make it with mpfgvc embed"),
        (["search", "RUN", "PHOTO", "--top", "0"], "--top must be at least 1, got 0"),
        (["embed", "RUN", "--batch-size", "0"], "--batch-size must be at least 1, got 0"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(
    cli: Cli, finished: Path, photos: Path, words: list[str], line: str
) -> None:
    places = {"RUN": finished, "RUN/model": finished / "model", "PHOTO": photos / "test" / "disc" / "0.png"}
    code, stdout, stderr = cli(*[places.get(word, word) for word in words])
    assert (code, stdout) == (2, "")
    assert re.search(line, stderr)
    assert len([each for each in stderr.splitlines() if each.startswith("mpfgvc: ")]) == 1
