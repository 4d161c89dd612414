"""What `mpfgvc data check` prints."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Cli = Callable[..., tuple[int, str, str]]


def draw(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (70, 80, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def leaking(tmp_path: Path) -> Path:
    """Two classes, with a copy of a training photograph in the test."""
    root = tmp_path / "birds"
    for number in range(3):
        draw(root / "train" / "crow" / f"{number}.png", seed=number)
        draw(root / "train" / "tern" / f"{number}.png", seed=10 + number)
    for name, seed in (("crow", 20), ("tern", 21)):
        draw(root / "test" / name / "t.png", seed=seed)
    shutil.copy(root / "train" / "crow" / "0.png", root / "test" / "crow" / "copy.png")
    return root


def test_findings_and_what_the_clean_manifest_leaves_out_are_printed(cli: Cli, leaking: Path, tmp_path: Path) -> None:
    fixed, copy, original = tmp_path / "clean.csv", leaking / "test/crow/copy.png", leaking / "train/crow/0.png"
    code, stdout, _ = cli("data", "check", "--data.root", leaking, "--data.validation", 0, "--fix", fixed)
    assert code == 1
    lines = stdout.splitlines()
    assert f"in two splits   {copy}, {original} (same file; splits: test, train; classes: crow)" in lines
    assert "few to train on crow (3)" in lines
    assert f"manifest        {fixed}: 8 photographs, 1 left out" in lines
    assert f"  left out      {original}: same picture as {copy} (test)" in lines
    words = ("--data.dataset", "manifest", "--data.manifest", fixed, "--data.root", leaking)
    assert cli("data", "check", *words, "--data.validation", 0)[0] == 0


def test_many_findings_of_a_kind_are_counted(cli: Cli, leaking: Path) -> None:
    for number in range(22):
        (leaking / "train" / "crow" / f"broken {number}.jpg").write_text("no photograph")
    code, stdout, _ = cli("data", "check", "--data.root", leaking, "--data.validation", 0)
    assert (code, stdout.count("cannot be read  ")) == (2, 20)
    assert "                and 2 more: --page or --json\n" in stdout


def test_json_is_one_document_with_page_and_manifest(cli: Cli, leaking: Path, tmp_path: Path) -> None:
    fixed, page = tmp_path / "clean.csv", tmp_path / "page.html"
    words = ("--data.root", leaking, "--data.validation", 0, "--json", "--fix", fixed, "--page", page)
    code, stdout, _ = cli("data", "check", *words)
    document = json.loads(stdout)
    assert (code, document["fine"], document["page"]) == (1, False, str(page))
    assert [len(each["paths"]) for each in document["findings"] if each["kind"] == "in two splits"] == [2]
    assert list(document["fix"]["left_out"]) == [str(leaking / "train/crow/0.png")]
    html = page.read_text()
    assert html.count('src="data:image/jpeg;base64,') == 2
    assert "few to train on: crow (3)" in html
    assert "http" not in html.replace("http-equiv", "")


def test_a_folder_that_cannot_be_written_to_is_refused_by_name(cli: Cli, leaking: Path, tmp_path: Path) -> None:
    out = tmp_path / "missing" / "clean.csv"
    code, _, stderr = cli("data", "check", "--data.root", leaking, "--data.validation", 0, "--fix", out)
    assert code == 2
    assert str(out) in stderr
