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
    labels = json.loads(stdout)["labels"]
    assert code in (0, 1)
    suspects = {each["path"][-len(WRONG) :]: each for each in labels["suspects"]}
    assert (suspects[WRONG]["label"], suspects[WRONG]["guess"]) == ("disc", "stripe")
    confidences = [each["self_confidence"] for each in labels["suspects"]]
    assert confidences == sorted(confidences)
    assert page.read_text().count('data-kind="suspected label"') == len(suspects)


def test_text_names_the_suspects_and_a_quick_check_judges_no_labels(cli: Cli, run: Path) -> None:
    _, stdout, _ = cli("data", "check", "--run", run)
    (line,) = [line for line in stdout.splitlines() if "wrong.png" in line and "suspected" in line]
    assert line.startswith("suspected label ")
    assert "rather stripe" in line
    assert "labels" not in json.loads(cli("data", "check", "--run", run, "--quick", "--json")[1])
