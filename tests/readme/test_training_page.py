"""The commands of docs/training.md run, with small photographs and towers, and its links lead somewhere."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.readme.blocks import blocks_of
from tests.readme.conftest import REPOSITORY
from tests.readme.test_readme import SMALL

PAGE = REPOSITORY / "docs" / "training.md"
FROZEN, COMPARED = (block.commands[0][1:] for block in blocks_of(PAGE))


def test_a_frozen_tower_trains_without_an_epoch_of_stage_1(
    mpfgvc: Callable[[list[str]], str], workshop: Path
) -> None:
    small = [word for word in SMALL if not word.startswith("--stage1.epochs")]
    run = Path(json.loads(mpfgvc([*FROZEN, *small, "--json"]))["run"])
    rows = (workshop / run / "metrics.csv").read_text().splitlines()[1:]
    assert {row.split(",")[0] for row in rows} == {"features", "stage2"}


@pytest.mark.slow("starts servers and another Python")
@pytest.mark.timeout(600)
def test_the_comparison_has_a_row_for_each_recipe(mpfgvc: Callable[[list[str]], str], workshop: Path) -> None:
    small = [word for word in SMALL if not word.startswith("--data.validation")]
    mpfgvc([*COMPARED, *small, "--seeds", "1"])
    table = (workshop / "runs" / "starts" / "table.md").read_text()
    for recipe in ("full", "frozen", "probe", "stage1-from-random", "fusion-from-random"):
        assert f"| {recipe} |" in table


def test_the_page_is_in_order() -> None:
    text = PAGE.read_text("utf-8")
    assert [line for line in text.splitlines() if len(line) > 120] == []
    links = re.findall(r"\]\((?!https:)([^)#]+)\)", text)
    assert links
    assert [link for link in links if not (PAGE.parent / link).exists()] == []
