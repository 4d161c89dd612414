"""What `mpfgvc data check` prints."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

Cli = Callable[..., tuple[int, str, str]]


def draw(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (70, 80, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_copies_are_listed_with_their_splits_and_classes(cli: Cli, tmp_path: Path) -> None:
    crow = draw(tmp_path / "train" / "crow" / "1.png", seed=1)
    tern = draw(tmp_path / "train" / "tern" / "2.png", seed=2)
    (tmp_path / "test" / "crow").mkdir(parents=True)
    leak = shutil.copy(crow, tmp_path / "test" / "crow" / "copy.png")
    other = shutil.copy(tern, tmp_path / "train" / "crow" / "copy.png")
    code, stdout, _ = cli("data", "check", "--data.root", tmp_path, "--data.validation", 0)
    assert code == 1
    lines = [line for line in stdout.splitlines() if line.startswith(("in two splits", "duplicate", "labels"))]
    assert lines == [
        f"in two splits   {leak}, {crow} (same file; splits: test, train; classes: crow)",
        f"labels disagree {other}, {tern} (same file; splits: train; classes: crow, tern)",
    ]


def leaking(root: Path) -> Path:
    """Two classes, with a copy of a training photograph in the test."""
    for number in range(3):
        draw(root / "train" / "crow" / f"{number}.png", seed=number)
        draw(root / "train" / "tern" / f"{number}.png", seed=10 + number)
    for name, seed in (("crow", 20), ("tern", 21)):
        draw(root / "test" / name / "t.png", seed=seed)
    shutil.copy(root / "train" / "crow" / "0.png", root / "test" / "crow" / "copy.png")
    return root


def test_the_manifest_of_fix_is_fine_and_what_was_left_out_is_said(cli: Cli, tmp_path: Path) -> None:
    root, fixed = leaking(tmp_path / "birds"), tmp_path / "clean.csv"
    code, stdout, _ = cli("data", "check", "--data.root", root, "--data.validation", 0, "--fix", fixed)
    assert code == 1
    assert f"manifest        {fixed}: 8 photographs, 1 left out" in stdout
    assert f"left out      {root}/train/crow/0.png: same picture as {root}/test/crow/copy.png (test)" in stdout
    words = ("--data.dataset", "manifest", "--data.manifest", fixed, "--data.root", root)
    assert cli("data", "check", *words, "--data.validation", 0)[0] == 0


def test_json_is_one_document_with_page_and_manifest(cli: Cli, tmp_path: Path) -> None:
    root, fixed, page = leaking(tmp_path / "birds"), tmp_path / "clean.csv", tmp_path / "page.html"
    words = ("--data.root", root, "--data.validation", 0, "--json", "--fix", fixed, "--page", page)
    code, stdout, _ = cli("data", "check", *words)
    document = json.loads(stdout)
    assert (code, document["fine"], document["page"]) == (1, False, str(page))
    assert [pair["kind"] for pair in document["pairs"]] == ["same file"]
    assert document["fix"]["kept"] == 8
    html = page.read_text()
    assert html.count('src="data:image/jpeg;base64,') == 2
    assert "http" not in html.replace("http-equiv", "")


def test_a_folder_that_cannot_be_written_to_is_refused_by_name(cli: Cli, tmp_path: Path) -> None:
    root, out = leaking(tmp_path / "birds"), tmp_path / "missing" / "clean.csv"
    code, _, stderr = cli("data", "check", "--data.root", root, "--data.validation", 0, "--fix", out)
    assert code == 2
    assert str(out) in stderr
