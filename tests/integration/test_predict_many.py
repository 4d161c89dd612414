"""Jobs on this machine: the rows of `predict`, part by part, and what a stopped job does when it goes on."""

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow.dataset as dataset
import pyarrow.parquet as parquet
import pytest
from PIL import Image

from mpfgvc import AnswerRules, Predictor, calibrate
from mpfgvc.inference.embeddings import read_embeddings

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def many(photos: Path, tmp_path: Path) -> Path:
    """The 15 test photographs, two broken ones, and a name that is not UTF-8."""
    folder = tmp_path / "many"
    shutil.copytree(photos / "test", folder)
    (folder / "disc" / "1a.png").write_bytes(b"no picture")
    (folder / "stripe" / "9.jpg").touch()
    shutil.copy(photos / "test" / "disc" / "0.png", folder / "disc" / "caf\udce9.png")
    return folder


def turned(photos: Path, root: Path) -> Path:
    """27 photographs that the run was not trained on."""
    for file in (photos / "train").glob("*/*.png"):
        target = root / file.relative_to(photos / "train")
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.open(file).rotate(180).save(target)
    return root


def test_the_rows_are_those_of_plain_predict(cli: Cli, finished: Path, many: Path, tmp_path: Path) -> None:
    out = tmp_path / "guesses"
    code, stdout, stderr = cli("predict", finished, many, "-o", out, "--top", 2, "--part-size", 4)
    assert (code, stdout) == (2, f"guesses  {out}, 18 photographs in 5 files\n")
    assert "2 of 18 photographs cannot be read, for the reasons in the column error" in stderr
    rows = parquet.read_table(out).to_pylist()
    listed = json.loads(cli("predict", finished, many, "--json", "--top", 2, "--batch-size", 4)[1])
    assert len(rows) == len(listed) == 18
    for row, entry in zip(rows, listed, strict=True):
        assert row["path"] == entry["path"].encode(errors="backslashreplace").decode()
        assert row["error"] == entry.get("error")
        labels = [guess["label"] for guess in entry["guesses"]] or None
        shares = [float(np.float32(guess["probability"])) for guess in entry["guesses"]] or None
        assert (row["labels"], row["probabilities"]) == (labels, shares)
        assert (row["label"], row["probability"]) == ((labels or [None])[0], (shares or [None])[0])
    assert dataset.dataset(out).count_rows() == 18  # what is beside the parts is passed over
    assert sorted(file.name for file in out.glob("*.parquet")) == [f"part-{n:08d}.parquet" for n in range(5)]


@contextmanager
def interrupted_before(name: str) -> Iterator[None]:
    """Ctrl-C at the moment when a file would get this name."""
    armed = [True]

    def look(event: str, arguments: tuple[object, ...]) -> None:
        if armed and event == "os.rename" and str(arguments[1]).endswith(name):
            raise KeyboardInterrupt

    sys.addaudithook(look)
    try:
        yield
    finally:
        armed.clear()


def times(out: Path) -> dict[str, int]:
    return {file.name: file.stat().st_mtime_ns for file in out.glob("part-*")}


def test_a_stopped_job_computes_only_what_is_missing(cli: Cli, finished: Path, many: Path, tmp_path: Path) -> None:
    out, words = tmp_path / "out", ("predict", finished, many, "--part-size", 4, "-o")
    cli(*words, tmp_path / "whole")
    with interrupted_before("part-00000003.parquet"):
        code, stdout, stderr = cli(*words, out)
    assert (code, stdout) == (130, "")
    assert f"what is done stays in {out}; the same command goes on" in stderr
    (out / "part-00000001.parquet").unlink()
    before = times(out)
    assert sorted(before) == ["part-00000000.parquet", "part-00000002.parquet"]
    code, _, stderr = cli(*words, out)
    assert code == 2
    assert "8 of 18 photographs are done already" in stderr
    assert "2 of 18 photographs cannot be read" in stderr  # of the parts that were done before, too
    after = times(out)
    assert before.items() <= after.items()
    assert parquet.read_table(out).equals(parquet.read_table(tmp_path / "whole"))
    assert cli(*words, out)[0] == 2
    assert times(out) == after, "a job that is done computes nothing"


def test_rules_add_their_columns(cli: Cli, run: Path, photos: Path, tmp_path: Path) -> None:
    calibrate(run, root=turned(photos, tmp_path / "other"))
    out, rules = tmp_path / "out", AnswerRules(abstain=0.5, set=0.6)
    code, _, stderr = cli(
        *("predict", run, photos / "test", "-o", out, "--abstain", 0.5, "--set", 0.6, "--part-size", 8)
    )
    rows = parquet.read_table(out).to_pylist()
    predictor = Predictor.from_pretrained(run, rules=rules)
    expected = list(predictor.predict_files([Path(row["path"]) for row in rows], batch_size=8))
    answers = [each.answer for each in expected if each.answer is not None]
    assert [row["answer"] for row in rows] == [each.label for each in answers]
    assert [row["level"] for row in rows] == [each.level if each.label else None for each in answers]
    assert [tuple(row["set"]) for row in rows] == [each.classes for each in answers]
    unsure = sum(each.label is None for each in answers)
    assert (code, f"{unsure} of 15 answers are unsure" in stderr) == (0, True)


def test_embeddings_are_those_of_embed_and_can_be_searched(
    cli: Cli, finished: Path, many: Path, tmp_path: Path
) -> None:
    os.rename(many / "disc" / "caf\udce9.png", many / "disc" / "cafe.png")  # noqa: PTH104
    cli("embed", finished, many, "-o", tmp_path / "e.parquet", "--batch-size", 4)
    code, stdout, _ = cli("embed", finished, many, "-o", f"{tmp_path}/parts/", "--part-size", 4, "--json")
    assert code == 2
    assert json.loads(stdout) == {"folder": f"{tmp_path}/parts/", "parts": 5, "count": 18, "unreadable": 2, "unsure": 0}
    whole, parts = (read_embeddings(tmp_path / name) for name in ("e.parquet", "parts"))
    assert parts.paths == whole.paths
    np.testing.assert_array_equal(parts.values, whole.values)
    assert parts.model == whole.model
    query = many / "disc" / "2.png"
    code, stdout, _ = cli("search", finished, query, "--in", tmp_path / "parts", "--top", 1)
    assert (code, str(query) in stdout.splitlines()[1]) == (0, True)


def test_a_damaged_part_is_named(cli: Cli, finished: Path, photos: Path, tmp_path: Path) -> None:
    words = ("predict", finished, photos / "test", "-o", tmp_path / "out", "--part-size", 4)
    cli(*words)
    part, other = (tmp_path / "out" / f"part-0000000{number}.parquet" for number in (1, 3))
    part.write_bytes(b"PAR1")
    code, _, stderr = cli(*words)
    assert code == 2
    assert "part-00000001.parquet: " in stderr
    assert "delete it and run the command again" in stderr
    shutil.copy(other, part)
    assert "part-00000001.parquet has not 4 rows; delete it" in cli(*words)[2]
    part.unlink()
    assert cli(*words)[0] == 0


def test_a_model_that_was_changed_since_is_another_one(cli: Cli, run: Path, photos: Path, tmp_path: Path) -> None:
    words = ("predict", run, photos / "test", "-o", tmp_path / "out")
    cli(*words)
    calibrate(run, root=turned(photos, tmp_path / "other"))
    code, stdout, stderr = cli(*words)
    assert (code, stdout) == (2, "")
    assert "holds a job of another model; give the same again, or choose another --out" in stderr


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["-o", "OUT", "--csv"], "--jsonl and --csv print guesses, but -o writes them as Parquet"),
        (["--part-size", "8"], "--part-size needs -o FOLDER; add it, or leave it out"),
        (["-o", "OUT", "--actors", "2"], "--actors needs --engine ray; add it, or leave it out"),
        (["-o", "OUT", "--engine", "openvino"], "--engine and --threads are for a .onnx file"),
        (["-o", "OUT", "--threads", "2"], "--threads is not for -o"),
        (["--engine", "ray"], "--engine ray writes into a folder; name it, such as -o guesses/"),
        (["--top", "0"], "--top must be at least 1, got 0"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(
    cli: Cli, finished: Path, photos: Path, tmp_path: Path, words: list[str], line: str
) -> None:
    out = tmp_path / "out"
    code, stdout, stderr = cli("predict", finished, photos, *[out if word == "OUT" else word for word in words])
    assert (code, stdout, stderr.count("\n"), out.exists()) == (2, "", 1, False)
    assert line in stderr


def test_an_exported_model_writes_the_rows_of_its_plain_prediction(
    cli: Cli, exported: Path, photos: Path, tmp_path: Path
) -> None:
    code, _, stderr = cli("predict", exported, photos / "test", "-o", tmp_path / "out", "--part-size", 8)
    assert code == 0, stderr
    rows = parquet.read_table(tmp_path / "out").to_pylist()
    guesses = Predictor.from_pretrained(exported)([Path(row["path"]) for row in rows])
    assert [row["labels"] for row in rows] == [[guess.label for guess in each] for each in guesses]
