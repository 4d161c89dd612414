"""The tables that an evaluation writes, and its page: what is in them, and what is said to be left out."""

import csv
import json
import os
import re
from datetime import datetime

import numpy as np
import pytest
import torch
from tests.made_answers import evaluation_of, metrics_of

from mpfgvc.data.taxonomy import Taxonomy
from mpfgvc.evaluation.evaluate import judged
from mpfgvc.evaluation.metrics import Evaluation, SourceMetrics
from mpfgvc.evaluation.report import PAIRS, POINTS, SUSPECTS, accuracy_by_coverage, order_by_likeness, write_report

TABLES = ("wrong.csv", "pairs.csv", "per_class.csv", "confusion_fusion.csv", "reliability.csv", "coverage.csv")


def rows(path):
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.reader(file))


def of_logits(classes, true, logits):
    labels = np.array(true)
    found = judged(torch.tensor(logits, dtype=torch.float32), torch.tensor(true))
    paths = tuple(f"{number}.jpg" for number in range(len(true)))
    sources = {"fusion": SourceMetrics.of(found, labels, len(classes))}
    groups = (tuple(f"genus {label // 3}" for label in range(len(classes))),)
    return Evaluation(
        split="test",
        paths=paths,
        classes=tuple(classes),
        sources=sources,
        taxonomy=Taxonomy(levels=("genus",), groups=groups),
    )


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """The folder of a report of 9 classes and 200 photographs, and its evaluation."""
    random, folder = np.random.default_rng(0), tmp_path_factory.mktemp("report")
    true = random.integers(0, 9, 200)
    logits = random.normal(size=(200, 9)) + 1.5 * np.eye(9)[true]
    evaluation = of_logits([f"class {label}" for label in range(9)], true.tolist(), logits)
    write_report(evaluation, folder, run="runs/birds", dataset="/data/<birds>")
    return folder, evaluation


def test_the_tables_of_classes_and_confusions_hold_what_occurred(tmp_path):
    classes = (os.fsdecode(b"f\xe9e"), 'tern, "arctic"', "wren")
    write_report(evaluation_of({(0, 0): 1, (0, 1): 2, (1, 1): 1}, classes), tmp_path / "out")
    assert rows(tmp_path / "out" / "confusion_fusion.csv") == [
        ["true", "predicted", "count"],
        [classes[0], classes[0], "1"],
        [classes[0], 'tern, "arctic"', "2"],
        ['tern, "arctic"', 'tern, "arctic"', "1"],
    ]
    assert rows(tmp_path / "out" / "per_class.csv") == [
        ["class", "count", "fusion"],
        [classes[0], "3", "0.3333"],
        ['tern, "arctic"', "1", "1.0000"],
        ["wren", "0", ""],
    ]


def test_every_wrong_photograph_is_in_the_table_with_its_rank_and_a_pair_counts_both_directions(tmp_path):
    logits = [[3, 0, 0], [2, 1, 3], [0, 9, 0], [0, 2, 3]]
    write_report(of_logits(("auk", "tern", "wren"), [0, 1, 2, 1], logits), tmp_path)
    heading, *found = rows(tmp_path / "wrong.csv")
    assert heading == ["path", "true", "guess", "probability", "truth_probability", "truth_rank"]
    assert [(*row[:3], row[5]) for row in found] == [
        ("2.jpg", "wren", "tern", "3"),
        ("3.jpg", "tern", "wren", "2"),
        ("1.jpg", "tern", "wren", "3"),
    ]
    assert float(found[2][3]) == pytest.approx(np.exp(3) / (np.exp(1) + np.exp(2) + np.exp(3)), rel=1e-5)
    assert rows(tmp_path / "pairs.csv")[1:] == [["tern", "wren", "3", "2", "1"]]
    assert {path.name for path in tmp_path.iterdir()} == {*TABLES, "report.json", "index.html"}


def test_the_document_has_intervals_around_what_they_are_of(drawn):
    folder, evaluation = drawn
    document = json.loads((folder / "report.json").read_text())
    interval, error = document["intervals"]["fusion"], document["calibration_error"]
    assert interval["low"] < document["top1"] == evaluation.top1 < interval["high"]
    assert 0 < error["value"] < error["high"]
    assert (document["run"], document["dataset"]) == ("runs/birds", "/data/<birds>")
    assert sum(int(row[2]) for row in rows(folder / "reliability.csv")[1:]) == 200
    assert rows(folder / "coverage.csv")[-1][0] == "1.0000"


def test_the_page_says_what_it_is_of_and_counts_what_it_has_no_room_for(drawn):
    folder, evaluation = drawn
    wrong, pairs = len(rows(folder / "wrong.csv")) - 1, len(rows(folder / "pairs.csv")) - 1
    page = " ".join((folder / "index.html").read_text().split())
    for said in ("runs/birds", "/data/&lt;birds&gt;", datetime.now().astimezone().date().isoformat(), ", same genus"):
        assert said in page
    assert f"<td>genus</td><td>{100 * evaluation.hierarchy.accuracy['genus']:.1f}</td>" in page
    assert f"All {wrong} are in wrong.csv" in page
    assert f"{pairs - PAIRS} further pairs are in pairs.csv" in page
    assert f"{wrong - SUSPECTS} more are in wrong.csv" in page
    assert "this evaluation has none to draw" in page
    assert not re.search(r"(src|href)=.(?!#|data:)|url\(|http(?!://www.w3.org/2000/svg)", page)


def test_suspects_come_by_the_doubt_about_their_label(tmp_path):
    found = np.array([(0, 1, 0.9, 0.9), (1, 2, 0.6, 0.3), (0, 3, 0.7, 0.01), (1, 2, 0.95, 0.04), (0, 2, 0.5, 0.4)])
    sources = {"fusion": SourceMetrics.of(found, np.array([0, 0, 1, 2, 1]), 3)}
    classes = ("auk", "tern", "wren")
    write_report(Evaluation(split="test", paths=tuple("12345"), classes=classes, sources=sources), tmp_path)
    data = json.loads(re.search(r'id="data">(.*?)</script>', (tmp_path / "index.html").read_text())[1])
    assert [row[0] for row in data["suspects"]] == ["3", "4", "2", "5"]
    assert [row[0] for row in data["wrong"]] == ["4", "3", "2", "5"]


def test_the_surest_answers_come_first_and_equal_ones_come_together():
    confidence, right = np.array([0.5, 0.9, 0.5, 0.8]), np.array([False, True, True, True])
    assert accuracy_by_coverage(confidence, right) == [(0.25, 1.0, 0.9), (0.5, 1.0, 0.8), (1.0, 0.75, 0.5)]


def test_a_long_curve_is_thinned_out_and_keeps_both_ends():
    random = np.random.default_rng(0)
    confidence, right = random.random(5000), random.random(5000) < 0.7
    curve = accuracy_by_coverage(confidence, right)
    assert len(curve) == POINTS
    assert (curve[0].coverage, curve[-1].coverage) == (1 / 5000, 1.0)
    assert curve[-1].accuracy == pytest.approx(right.mean())


def test_groups_stand_together_and_classes_without_mistakes_at_the_end():
    order = np.random.default_rng(0).permutation(20).tolist()
    groups = [order[:4], order[4:9], order[9:12]]
    pairs = {(label, label): 10 for label in range(20)}
    pairs |= {(one, other): 3 for group in groups for one in group for other in group if one != other}
    found = order_by_likeness(metrics_of(pairs, 20))
    assert sorted(found) == list(range(20))
    for group in groups:
        where = sorted(found.index(label) for label in group)
        assert where == list(range(where[0], where[0] + len(group)))
    assert found[12:] == sorted(order[12:])
    assert order_by_likeness(metrics_of({(2, 0): 3, (0, 2): 1}, 4)) == [0, 2, 1, 3]
