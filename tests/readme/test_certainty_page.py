"""The examples of docs/certainty.md, one after the other, on a run that was trained on small photographs."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.readme.blocks import blocks_of
from tests.readme.conftest import REPOSITORY, Python
from tests.readme.test_readme import SMALL

PAGE = REPOSITORY / "docs" / "certainty.md"
BLOCKS = blocks_of(PAGE)
Command = Callable[[list[str]], str]


@pytest.fixture
def trained(mpfgvc: Command, workshop: Path) -> Path:
    """The workshop with `runs/mushrooms` and `more_photos/`, the same with other noise, twice."""
    generator = np.random.default_rng(0)
    for file in sorted((workshop / "my_photos").rglob("*.png")):
        folder = workshop / "more_photos" / file.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.asarray(Image.open(file)).astype(int)
        for copy in range(2):
            noisy = (pixels + generator.integers(-20, 20, pixels.shape)).clip(0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(folder / f"{copy}-{file.name}")
    mpfgvc(["train", "--data.root", "my_photos", "--out", "runs/mushrooms", *SMALL])
    return workshop


def test_every_block_runs_in_its_order(mpfgvc: Command, python: Python, trained: Path) -> None:
    outputs = []
    for block in BLOCKS:
        if block.language == "csv":
            (trained / "tree.csv").write_text(block.text)
        elif block.language == "python":
            result = python(["-c", block.text])
            assert result.returncode == 0, result.stderr
            outputs.append(result.stdout)
        elif block.language == "bash":
            outputs += [mpfgvc(words[1:]) for words in block.commands]
    assert all(outputs), "each of them says something"
    (expected,) = [block.text for block in BLOCKS if block.language == "text"]
    assert [line.split()[0] for line in outputs[0].splitlines()[:3]] == [
        line.split()[0] for line in expected.splitlines()[:3]
    ]
    assert outputs[0].startswith("calibrated on 60 photographs of another labelled set")
    assert all("answer: " in each for each in outputs[1:3])


def test_the_page_is_in_order() -> None:
    assert [line for line in PAGE.read_text("utf-8").splitlines() if len(line) > 120] == []
