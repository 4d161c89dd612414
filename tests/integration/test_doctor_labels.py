"""`mpfgvc data check --run`: the run's image tower judges labels, and the page shows what it doubts."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mpfgvc import Config, train

Cli = Callable[..., tuple[int, str, str]]
WRONG = "train/disc/wrong.png"


@pytest.fixture(scope="module")
def run(photos: Path, tmp_path_factory: pytest.TempPathFactory, tiny: Callable[..., Config]) -> Path:
    """A run with a frozen tower on photographs of which one, a stripe, is called a disc."""
    folder = tmp_path_factory.mktemp("labels")
    root = Path(shutil.copytree(photos, folder / "photos"))
    (root / "train" / "stripe" / "0.png").rename(root / WRONG)
    settings = {"data.root": str(root), "stage1.epochs": 0, "stage2.epochs": 1, "final_test": False}
    train(tiny(settings), out=folder / "run")
    return folder / "run"


def test_labels_are_judged_in_json_and_on_the_page(cli: Cli, run: Path, tmp_path: Path) -> None:
    page = tmp_path / "labels.html"
    code, stdout, _ = cli("data", "check", "--run", run, "--json", "--page", page)
    findings = json.loads(stdout)["findings"]
    assert code in (0, 1)
    suspects = {each["paths"][0][-len(WRONG) :]: each for each in findings if each["kind"] == "suspected label"}
    assert suspects[WRONG]["classes"] == ["disc", "stripe"]
    assert suspects[WRONG]["text"].startswith("called disc, ")
    assert page.read_text().count('data-kind="suspected label"') == len(suspects)


def test_a_quick_check_judges_no_labels(cli: Cli, run: Path) -> None:
    assert "suspected label" not in cli("data", "check", "--run", run, "--quick")[1]
