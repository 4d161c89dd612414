"""A dataset and a network small enough to train whole runs in seconds."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image
from tests.conftest import Once

from mpfgvc import Config, export, load_config, train

if TYPE_CHECKING:
    import playwright.sync_api

CLASSES = ("cross", "disc", "stripe")


@pytest.fixture(scope="session")
def photos(once: Once) -> Path:
    """Class folders with train, val and test above them: 3 classes, 9 + 2 + 5 photographs each."""
    return once("photos", _draw)


def _draw(root: Path) -> None:
    for split, count in (("train", 9), ("val", 2), ("test", 5)):
        for label, name in enumerate(CLASSES):
            folder = root / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                generator = np.random.default_rng((label, index, count))
                pixels = generator.integers(0, 90, (40, 48, 3), dtype=np.uint8)
                pixels[10:30, 10 + index : 30 + index, label] += 160
                Image.fromarray(pixels).save(folder / f"{index}.png")


@pytest.fixture(scope="session")
def tiny(photos: Path) -> Callable[..., Config]:
    """Settings of a run on `photos` that takes a second or two; keywords override by dotted name."""

    def make(overrides: dict[str, Any] | None = None) -> Config:
        settings: dict[str, Any] = {
            "data.root": str(photos),
            "data.workers": 0,
            "model.image_tower.name": "test_vit",
            "model.image_tower.pretrained": False,
            "model.image_tower.image_size": 48,
            "model.text_tower.name": "mpfgvc-small",
            "model.text_tower.pretrained": None,
            "model.kept_tokens": 4,
            "model.context_tokens": 2,
            "stage1.start": "random",  # quicker by 200 steps
            "stage1.epochs": 2,
            "stage1.batch_size": 8,
            "stage2.epochs": 2,
            "stage2.batch_size": 12,
            "checkpoint_steps": 2,
            "device": "cpu",
            "precision": "fp32",
        }
        return load_config(overrides=settings | (overrides or {}))

    return make


@pytest.fixture(scope="session")
def finished(tiny: Callable[..., Config], once: Once) -> Path:
    """The folder of a finished run of `tiny`. Tests that change it work on a copy."""
    return once("finished", lambda folder: train(tiny({"stage1.start": "features"}), out=folder))


@pytest.fixture(scope="session")
def plain(tiny: Callable[..., Config], once: Once) -> Path:
    """A run of `tiny` from random numbers. Tests that change it work on a copy."""
    return once("plain", lambda folder: train(tiny(), out=folder))


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of `finished`, for what is changed in it or written into it."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.fixture(scope="session")
def exported(finished: Path, once: Once) -> Path:
    """`finished` as an ONNX file in fp32."""
    return once("exported", lambda folder: export(finished, folder / "run.onnx")) / "run.onnx"


@pytest.fixture(scope="session")
def tiny_words(tiny: Callable[..., Config]) -> list[str]:
    """The words of the command line for a run of a second on `photos`."""
    return [
        *("--data.root", str(tiny().data.root), "--data.workers", "0", "--device", "cpu"),
        *("--model.image_tower.name", "test_vit", "--model.image_tower.pretrained", "false"),
        *("--model.image_tower.image_size=48", "--model.text_tower.name=mpfgvc-small"),
        *("--model.text_tower.pretrained=null", "--model.kept_tokens=4", "--stage1.epochs=1"),
        *("--stage1.batch_size=8", "--stage1.start=random", "--stage2.epochs=1"),
    ]


@pytest.fixture(scope="session")
def browser() -> "Iterator[playwright.sync_api.Browser]":
    """Chromium. Skips what needs it where there is none."""
    api = pytest.importorskip("playwright.sync_api")
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("needs Chromium, as chromium on the path")
    with api.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield chromium
        chromium.close()
