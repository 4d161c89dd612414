"""What `mpfgvc data check` prints."""

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
    lines = [
        line for line in stdout.splitlines() if line.startswith(("in two splits", "duplicate", "labels"))
    ]
    assert lines == [
        f"in two splits   {leak}, {crow} (same file; splits: test, train; classes: crow)",
        f"labels disagree {other}, {tern} (same file; splits: train; classes: crow, tern)",
    ]
