"""Every code block of the pages in docs/ runs, in the order of its page, with small photographs and towers.

Files are written under the name that the page gives them; a block of text behind a block that ran is its
output, compared in its columns. training.md and descriptions.md have tests of their own.
"""

import contextlib
import io
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.loopback_hub import ask, serving
from tests.readme.blocks import Block, blocks_of, columns
from tests.readme.conftest import REPOSITORY, draw_photographs
from tests.readme.test_readme import BIRDS, SETTINGS, SMALL

from mpfgvc import load_config, train

DOCS = REPOSITORY / "docs"
PAGES = (
    "index.md",
    "own-data.md",
    "doctor.md",
    "method.md",
    "recipes.md",
    "hub.md",
    "api.md",
    "faq.md",
    "report.md",
    "shards.md",
    "scale.md",
    "predict-many.md",
)
WITH_OWN_TEST = (
    "training.md",
    "descriptions.md",
    "explain.md",
    "certainty.md",
    "export.md",
    "serving.md",
    "serve-many.md",
)
WITHOUT_BLOCKS = ("commands.md",)
FILES = {("own-data.md", "csv"): "photos.csv", ("recipes.md", "yaml"): "mine.yaml"}
NOT_RUN = ("pip", "hf", "torchrun")
"""Programs that need the network; torchrun is run by test_readme.py."""
Run = Callable[[list[str]], str]


@pytest.fixture(scope="session")
def mushrooms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that pages take for granted."""
    folder = tmp_path_factory.mktemp("mushrooms")
    draw_photographs(folder)
    settings = {"data.root": str(folder / "my_photos"), "model.supercategory": "mushroom"} | SETTINGS
    return train(load_config(overrides=settings), out=folder / "run").path


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A hub on this machine."""
    with serving(tmp_path / "hub") as address:
        ask(monkeypatch, address, tmp_path / "cache")
        yield


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", PAGES)
@pytest.mark.usefixtures("hub")
def test_the_blocks_of_a_page_run(
    name: str, mpfgvc: Run, workshop: Path, mushrooms: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = blocks_of(DOCS / name)
    if not any("runs/mushrooms" in words and "train" in words for words in _commands(blocks)):
        shutil.copytree(mushrooms, workshop / "runs" / "mushrooms")
    for block in blocks:
        if (file := FILES.get((name, block.language))) is not None:
            (workshop / file).write_text(block.text)
    monkeypatch.chdir(workshop)
    printed = None
    for block in blocks:
        if block.language == "text" and printed is not None:
            shapes = [columns(line) for line in printed.splitlines()]
            assert [line for line in block.text.splitlines() if columns(line) not in shapes] == []
        elif block.language != "text":
            printed = _run(block, mpfgvc)


def test_every_page_is_run_or_has_a_test_of_its_own() -> None:
    names = {path.name for path in DOCS.glob("*.md")}
    assert names == {*PAGES, *WITH_OWN_TEST, *WITHOUT_BLOCKS}
    assert all(not blocks_of(DOCS / name) for name in WITHOUT_BLOCKS)
    for name in PAGES:
        for block in blocks_of(DOCS / name):
            assert block.language in ("bash", "python", "text") or (name, block.language) in FILES
            assert all(words[0] in ("mpfgvc", *NOT_RUN) for words in _commands([block]))


def test_lines_of_the_pages_are_not_too_long() -> None:
    for path in DOCS.glob("*.md"):
        lines = path.read_text("utf-8").splitlines()
        long = [line for line in lines if len(line) > 120 and not line.startswith("|")]
        assert long == [], f"{path.name}: only rows of tables may be longer"


def _commands(blocks: list[Block]) -> list[list[str]]:
    return [words for block in blocks if block.language == "bash" for words in block.commands]


def _run(block: Block, mpfgvc: Run) -> str:
    """What a block prints."""
    if block.language == "python":
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(compile(block.text, "page", "exec"), {"__name__": "__main__"})  # noqa: S102
        return printed.getvalue()
    return "".join(mpfgvc(_small(words[1:])) for words in _commands([block]) if words[0] not in NOT_RUN)


def _small(words: list[str]) -> list[str]:
    """A command with small towers; without data, with few birds."""
    if words[0] != "train" or "--resume" in words:
        return words
    return [*words, *SMALL, *([] if {"--data.root", "--config"} & set(words) else BIRDS)]
