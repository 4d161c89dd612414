"""The rows of a comparison by hand, and its forms on disk."""

import csv
import io
import json
from pathlib import Path

import pytest
from tests.made_answers import answers_of

from mpfgvc.errors import DataError
from mpfgvc.evaluation.comparison import Comparison, RecipeResults, RunResult, compared, write_comparison_files


def run(seed: int, fusion: str, *, paths: str = "pqrst", vision: str = "xxxxx", peak: int = 0) -> RunResult:
    answers = answers_of("a" * len(paths), {"vision": vision[: len(paths)], "fusion": fusion}, paths)
    return RunResult(seed=seed, answers=answers, seconds=60.0 * (seed + 1), peak_bytes=peak or None)


def recipe(name: str, *runs: RunResult, prediction: str = "fusion") -> RecipeResults:
    return RecipeResults(name=name, prediction=prediction, runs=runs, changes={})  # type: ignore[arg-type]


@pytest.fixture
def comparison() -> Comparison:
    full = recipe("full", run(0, "aaaax", peak=3 * 2**30), run(1, "aaaxx", peak=2 * 2**30))
    probe = recipe("pro|be", run(0, "aaxxx"), run(1, "axxxx", vision="aaxxx"))
    return compared([full, probe], reference="full", split="test")


def test_a_row_has_means_over_seeds_and_the_difference_by_photograph(comparison: Comparison) -> None:
    full, probe = comparison.rows
    assert (full.accuracies, full.accuracy, full.difference) == ((0.8, 0.6), 0.7, None)
    assert full.deviation == pytest.approx(0.1414, abs=1e-4)
    assert (full.minutes, full.peak_bytes, probe.peak_bytes) == (1.5, 3 * 2**30, None)
    assert probe.difference is not None
    assert probe.difference.mean == pytest.approx(0.3 - 0.7)
    # Photographs differ by 0, -1, -2, -1, 0 answers: flipped signs reach a sum of 4 in 2 of 8 ways.
    assert probe.difference.p_value == pytest.approx(2 / 8)
    assert probe.sources == pytest.approx({"vision": 0.2, "fusion": 0.3})
    assert comparison.photographs == 5


def test_what_counts_is_the_source_that_the_recipe_answers_with() -> None:
    full = recipe("full", run(0, "xxxxx"))
    probe = recipe("probe", run(0, "xxxxx", vision="aaaax"), prediction="vision")
    assert compared([full, probe], reference="full", split="test").rows[1].accuracy == 0.8


def test_a_split_that_is_drawn_by_the_seed_is_compared_seed_by_seed() -> None:
    full = recipe("full", run(0, "ax", paths="pq"), run(1, "aa", paths="qr"))
    other = recipe("other", run(0, "aa", paths="pq"), run(1, "ax", paths="qr"))
    comparison = compared([full, other], reference="full", split="validation")
    assert comparison.photographs == 3
    assert [row.accuracy for row in comparison.rows] == [0.75, 0.75]
    assert comparison.rows[1].difference is not None
    assert comparison.rows[1].difference.mean == 0


def test_recipes_that_saw_other_photographs_are_refused() -> None:
    full, other = recipe("full", run(0, "aa", paths="pq")), recipe("other", run(0, "aa", paths="pr"))
    with pytest.raises(DataError, match=r"other was tested on other photographs than full \(seed 0\)"):
        compared([full, other], reference="full", split="test")


def test_the_files_say_the_same(comparison: Comparison, tmp_path: Path) -> None:
    write_comparison_files(comparison, tmp_path / "out")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out" / "table.csv").read_text())))
    document = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert document == json.loads(json.dumps(comparison.to_dict()))
    for row, other in zip(rows, document["recipes"], strict=True):
        assert row["recipe"] == other["name"]
        assert float(row["accuracy"]) == other["accuracy"]
        assert [float(row["seed_0"]), float(row["seed_1"])] == other["accuracies"]
    markdown = (tmp_path / "out" / "table.md").read_text()
    assert "| full | 70.0 | 14.1 |" in markdown
    assert "| pro&#124;be | 30.0 |" in markdown
    assert "| -40.0 |" in markdown
