"""Every code block of the pages in docs/ runs, in the order of its page, with small photographs and towers.

Files are written under the name that the page gives them; a block of text behind a block that ran is its
output, compared in its columns.
"""

import contextlib
import io
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.loopback_hub import ask, serving
from tests.readme.blocks import Block, blocks_of, columns
from tests.readme.conftest import REPOSITORY, SMALL
from tests.readme.test_readme import BIRDS

DOCS = REPOSITORY / "docs"
SLOW = {
    "training.md": pytest.mark.slow("compares five recipes"),
    "export.md": pytest.mark.slow("exports a run four times"),
    "predict-many.md": pytest.mark.ray,
}
WITH_OWN_TEST = {"serving.md", "serve-many.md"}
NAMES = sorted(path.name for path in DOCS.glob("*.md"))
PAGES = [
    pytest.param(name, marks=SLOW.get(name, ()))
    for name in NAMES
    if name not in WITH_OWN_TEST and blocks_of(DOCS / name)
]
FILES = {
    ("own-data.md", "csv"): "photos.csv",
    ("recipes.md", "yaml"): "mine.yaml",
    ("certainty.md", "csv"): "tree.csv",
    ("descriptions.md", "csv"): "mushrooms.csv",
}
COPIES = {
    "explain.md": ("new_photos/bolete.jpg", "new_photos/morel.jpg", "collection/1.jpg", "before.jpg", "after.jpg")
}
"""Photographs that a page names."""
NOT_RUN = ("pip", "hf", "torchrun")
"""Programs that need the network; torchrun is run by test_readme.py."""
Run = Callable[[list[str]], str]


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
    _prepare(name, workshop)
    for block in blocks:
        if (file := FILES.get((name, block.language))) is not None:
            (workshop / file).write_text(block.text)
    monkeypatch.chdir(workshop)
    printed = None
    for block in blocks:
        if block.language in ("bash", "python"):
            printed = _run(block, mpfgvc)
        elif block.language == "text" and printed is not None:
            shapes = [columns(line) for line in printed.splitlines()]
            assert [line for line in block.text.splitlines() if columns(line) not in shapes] == []


def test_every_block_is_of_a_kind_that_is_run() -> None:
    for page in PAGES:
        (name,) = page.values
        for block in blocks_of(DOCS / str(name)):
            assert block.language in ("bash", "python", "text") or (name, block.language) in FILES
            assert all(words[0] in ("mpfgvc", "mpfgvc-runtime", *NOT_RUN) for words in _commands([block]))


@pytest.mark.parametrize("name", NAMES)
def test_the_lines_of_a_page_are_not_too_long_and_its_links_lead_somewhere(name: str) -> None:
    text = (DOCS / name).read_text("utf-8")
    lines = [line for line in text.splitlines() if len(line) > 120 and not line.startswith("|")]
    assert lines == [], "only rows of tables may be longer"
    links = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    assert [link for link in links if not (DOCS / link).exists()] == []


def _prepare(name: str, workshop: Path) -> None:
    """Photographs that a page takes for granted."""
    for copy in COPIES.get(name, ()):
        (workshop / copy).parent.mkdir(exist_ok=True)
        shutil.copy(workshop / "photo.jpg", workshop / copy)
    generator = np.random.default_rng(0)
    for file in sorted((workshop / "my_photos").rglob("*.png")) if name == "certainty.md" else ():
        pixels = np.asarray(Image.open(file)).astype(int)
        for copy in range(2):  # the same with other noise
            target = workshop / "more_photos" / file.parent.name / f"{copy}-{file.name}"
            target.parent.mkdir(parents=True, exist_ok=True)
            noisy = (pixels + generator.integers(-20, 20, pixels.shape)).clip(0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(target)


def _commands(blocks: list[Block]) -> list[list[str]]:
    return [words for block in blocks if block.language == "bash" for words in block.commands]


def _run(block: Block, mpfgvc: Run) -> str:
    """What a block prints."""
    if block.language == "python":
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(compile(block.text, "page", "exec"), {"__name__": "__main__"})  # noqa: S102
        return printed.getvalue()
    commands = [words for words in _commands([block]) if words[0] not in NOT_RUN]
    return "".join(mpfgvc(_small(words[1:])) for words in commands if words[0] == "mpfgvc")


def _small(words: list[str]) -> list[str]:
    """A command with small towers; without data, with few birds; with loose limits for int8."""
    if "int8" in words:
        return [*words, "--agreement", "0"]
    if words[0] == "compare":
        return [*words, *(word for word in SMALL if "validation" not in word), "--seeds", "1"]
    if words[0] != "train" or "--resume" in words:
        return words
    return [*words, *SMALL, *([] if {"--data.root", "--config"} & set(words) else BIRDS)]
