"""Small photographs and datasets to read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mpfgvc.data.samples import Samples

DrawPhoto = Callable[..., Path]


@pytest.fixture
def draw() -> DrawPhoto:
    """Write a photograph of noise; `seed` decides what is on it."""

    def write(path: Path, *, seed: int = 0, size: tuple[int, int] = (40, 30)) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        width, height = size
        pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        return path

    return write


@pytest.fixture
def class_folders(tmp_path: Path, draw: DrawPhoto) -> Path:
    """Two classes of 10 photographs and one of 5."""
    for label, (name, count) in enumerate({"class 2": 10, "class 10": 10, "class 1": 5}.items()):
        for index in range(count):
            draw(tmp_path / "birds" / name / f"{index}.png", seed=100 * label + index)
    return tmp_path / "birds"


@pytest.fixture
def samples(tmp_path: Path, draw: DrawPhoto) -> Samples:
    """11 training photographs: 6 of class 0 and 5 of class 1."""
    for index in range(11):
        draw(tmp_path / f"{index}.png", seed=index)
    return Samples.of(tmp_path, [(f"{index}.png", index % 2, "train") for index in range(11)])
