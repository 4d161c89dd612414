"""`mpfgvc predict` on real files: what is found, in which format, and what becomes of a broken one."""

import io
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from mpfgvc import Predictor
from mpfgvc.cli.main import main

Cli = Callable[..., tuple[int, str, str]]


def test_predict_takes_a_file_a_folder_and_a_glob(cli: Cli, finished: Path, photos: Path) -> None:
    one = photos / "test" / "disc" / "0.png"
    code, stdout, _ = cli("predict", finished, one, "--json", "--top", 2)
    assert code == 0
    (entry,) = json.loads(stdout)
    assert entry["path"] == str(one)
    assert [set(guess) for guess in entry["guesses"]] == [{"label", "probability"}] * 2
    assert len(json.loads(cli("predict", finished, photos / "test", "--json")[1])) == 15
    assert len(json.loads(cli("predict", finished, f"{photos}/test/*/1.png", "--json", "--batch-size", 2)[1])) == 3


@pytest.fixture
def mixed(photos: Path, tmp_path: Path) -> Path:
    """A folder with a broken photograph and a good one after it."""
    (tmp_path / "a.jpg").write_bytes(b"no image")
    Image.open(photos / "test" / "disc" / "0.png").save(tmp_path / "b.png")
    return tmp_path


@pytest.mark.parametrize("option", ["--json", "--jsonl"])
def test_a_broken_photograph_is_in_json_with_its_reason(cli: Cli, finished: Path, mixed: Path, option: str) -> None:
    code, stdout, stderr = cli("predict", finished, mixed, option, "--top", 1)
    entries = json.loads(stdout) if option == "--json" else list(map(json.loads, stdout.splitlines()))
    assert code == 2
    assert [Path(entry["path"]).name for entry in entries] == ["a.jpg", "b.png"]
    assert [set(entry) for entry in entries] == [{"path", "guesses", "error"}, {"path", "guesses"}]
    assert entries[0]["guesses"] == []
    assert "not an image" in entries[0]["error"]
    assert "1 of 2 photographs cannot be read" in stderr


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252"])
def test_names_survive_every_encoding_of_standard_output(
    monkeypatch: pytest.MonkeyPatch, finished: Path, photos: Path, tmp_path: Path, encoding: str
) -> None:
    file = tmp_path / "caf\udce9.png"  # a name in Latin-1
    shutil.copy(photos / "test" / "disc" / "0.png", file)
    for words in ([], ["--json"]):
        stdout = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        monkeypatch.setattr(sys, "stdout", stdout)
        assert main(["predict", str(finished), str(file), *words]) == 0
        written = stdout.buffer.getvalue()  # type: ignore[attr-defined]
        if words:
            assert json.loads(written.decode("ascii"))[0]["path"] == str(file)
        else:
            assert os.fsencode(file) in written.splitlines()


def test_predict_says_its_precision_and_refuses_two_formats(cli: Cli, finished: Path, photos: Path) -> None:
    file = photos / "test" / "disc" / "0.png"
    assert "1 of 1 photographs predicted in bf16" in cli("predict", finished, file, "--precision", "bf16")[2]
    code, stdout, stderr = cli("predict", finished, file, "--json", "--csv")
    assert (code, stdout) == (2, "")
    assert "not allowed with" in stderr


def test_photographs_are_sorted_into_folders_by_their_answer_as_links(
    cli: Cli, finished: Path, mixed: Path, photos: Path, tmp_path: Path
) -> None:
    out, words = tmp_path / "sorted", ("predict", finished, mixed, photos / "test" / "disc", "--sort", "--json")
    code, stdout, _ = cli(*words, "-o", out)
    document = json.loads(stdout)
    assert (code, document["count"], document["folders"]["cannot be read"]) == (2, 7, 1)
    assert (out / "cannot be read" / "a.jpg").readlink() == mixed / "a.jpg"
    links = [link for link in out.rglob("*") if link.is_symlink()]
    assert len(links) == 7
    for file in (photos / "test" / "disc").iterdir():
        (link,) = (link for link in links if link.readlink() == file)
        assert link.parent.name == Predictor.from_pretrained(finished)(file, top=1)[0].label
    assert "--sort writes into a new folder" in cli(*words, "-o", out)[2]
    assert "--sort needs -o FOLDER" in cli(*words)[2]
