"""The examples of docs/descriptions.md: its files say the same, and its command trains with them."""

from collections.abc import Callable
from pathlib import Path

from tests.readme.blocks import blocks_of
from tests.readme.conftest import REPOSITORY
from tests.readme.test_readme import SMALL

from mpfgvc.data.descriptions import read_descriptions

BLOCKS = blocks_of(REPOSITORY / "docs" / "descriptions.md")
CLASSES = ("bolete", "chanterelle", "morel")


def test_every_block_is_one_that_is_tried() -> None:
    assert [block.language for block in BLOCKS] == ["csv", "yaml", "bash"]


def test_both_files_say_the_same(tmp_path: Path) -> None:
    found = []
    for block in BLOCKS[:2]:
        file = tmp_path / f"mushrooms.{block.language}"
        file.write_text(block.text)
        found.append(read_descriptions(file, CLASSES))
    assert found[0] == found[1]
    assert [len(sentences) for sentences in found[0].sentences] == [2, 2, 2]


def test_the_command_trains_with_the_file(mpfgvc: Callable[[list[str]], str], workshop: Path) -> None:
    (workshop / "mushrooms.csv").write_text(BLOCKS[0].text)
    ((_, *words),) = BLOCKS[2].commands
    mpfgvc([*words, *SMALL])
    assert (workshop / "runs" / "described" / "descriptions.csv").read_text() == BLOCKS[0].text


def test_the_page_is_in_order() -> None:
    lines = (REPOSITORY / "docs" / "descriptions.md").read_text("utf-8").splitlines()
    assert [line for line in lines if len(line) > 120] == []
