"""A folder in which README's commands can run: small photographs, small birds, and the README itself."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.conftest import Once

from mpfgvc import load_config, train
from mpfgvc.cli.main import main

REPOSITORY = Path(__file__).resolve().parents[2]
Python = Callable[[list[str]], subprocess.CompletedProcess[str]]
SETTINGS = {
    "data.workers": 0,
    "data.validation": 0.0,
    "model.image_tower.name": "test_vit",
    "model.image_tower.pretrained": False,
    "model.image_tower.image_size": 48,
    "model.text_tower.name": "mpfgvc-small",
    "model.text_tower.pretrained": None,
    "model.kept_tokens": 4,
    "stage1.start": "random",
    "stage1.epochs": 1,
    "stage1.batch_size": 8,
    "stage2.epochs": 1,
    "device": "cpu",
}
"""What a training is given on top, so that it needs seconds and no download."""
SMALL = [f"--{name}={str(value).lower().replace('none', 'null')}" for name, value in SETTINGS.items()]


@pytest.fixture
def workshop(tmp_path: Path) -> Path:
    """`my_photos/` with three classes, `new_photos/`, and `photo.jpg`."""
    draw_photographs(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def mushrooms(once: Once) -> Path:
    """A run that pages take for granted."""

    def fill(folder: Path) -> None:
        draw_photographs(folder)
        settings = {"data.root": str(folder / "my_photos"), "model.supercategory": "mushroom"} | SETTINGS
        train(load_config(overrides=settings), out=folder / "run")

    return once("mushrooms", fill) / "run"


def draw_photographs(folder: Path) -> None:
    """What `workshop` holds."""
    for label, name in enumerate(("bolete", "chanterelle", "morel")):
        for index in range(10):
            _draw(folder / "my_photos" / name / f"{index}.png", label, index)
    for index in range(2):
        _draw(folder / "new_photos" / f"{index}.jpg", index, 10 + index)
    _draw(folder / "photo.jpg", 2, 12)


@pytest.fixture
def python(workshop: Path) -> Python:
    """Run words in the workshop with a Python of their own."""

    def run(words: list[str]) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        return subprocess.run(
            [sys.executable, *words],
            cwd=workshop,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=500,
        )

    return run


@pytest.fixture
def mpfgvc(
    workshop: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[[list[str]], str]:
    """Run a command of mpfgvc in the workshop: its standard output. In this process, to import torch once."""

    def run(words: list[str]) -> str:
        monkeypatch.chdir(workshop)
        capfd.readouterr()
        try:
            code: object = main(words)
        except SystemExit as stop:  # --help
            code = stop.code or 0
        output, errors = capfd.readouterr()
        assert code == 0, f"{words}: {errors[-2000:]}"
        return output

    return run


def _draw(path: Path, label: int, index: int) -> None:
    generator = np.random.default_rng((label, index))
    pixels = generator.integers(0, 90, (40, 48, 3), dtype=np.uint8)
    pixels[10:30, 10 + index : 30 + index, label] += 160
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
