"""The examples of docs/explain.md, one after the other, on a run that was trained on small photographs."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from tests.readme.blocks import blocks_of
from tests.readme.conftest import REPOSITORY, Python
from tests.readme.test_readme import SMALL

PAGE = REPOSITORY / "docs" / "explain.md"
BLOCKS = blocks_of(PAGE)
Command = Callable[[list[str]], str]


@pytest.fixture
def trained(mpfgvc: Command, workshop: Path) -> Path:
    """The workshop with `runs/mushrooms` and the photographs that the page names."""
    for name in (
        "new_photos/bolete.jpg",
        "new_photos/morel.jpg",
        "before.jpg",
        "after.jpg",
        "collection/1.jpg",
    ):
        (workshop / name).parent.mkdir(exist_ok=True)
        shutil.copy(workshop / "photo.jpg", workshop / name)
    mpfgvc(["train", "--data.root", "my_photos", "--out", "runs/mushrooms", *SMALL])
    return workshop


def test_every_block_runs_in_its_order(mpfgvc: Command, python: Python, trained: Path) -> None:
    outputs = []
    for block in BLOCKS:
        if block.language == "python":
            result = python(["-c", block.text])
            assert result.returncode == 0, result.stderr
            outputs.append(result.stdout)
        else:
            assert block.language == "bash"
            outputs += [mpfgvc(words[1:]) for words in block.commands]
    assert all(outputs), "each of them says something"
    assert (trained / "runs" / "mushrooms" / "embeddings.parquet").is_file()
    for name in ("why.png", "changed.png"):
        assert Image.open(trained / name).width > 400
    assert "rather than" in outputs[-1]


def test_the_page_is_in_order() -> None:
    assert [line for line in PAGE.read_text("utf-8").splitlines() if len(line) > 120] == []
