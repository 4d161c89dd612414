"""A folder in which README's commands can run: small photographs, small birds, and the README itself."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mpfgvc.cli.main import main

REPOSITORY = Path(__file__).resolve().parents[2]
Python = Callable[[list[str]], subprocess.CompletedProcess[str]]


@pytest.fixture
def workshop(tmp_path: Path) -> Path:
    """`my_photos/` with three classes, `new_photos/`, and `photo.jpg`."""
    draw_photographs(tmp_path)
    return tmp_path


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
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
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
