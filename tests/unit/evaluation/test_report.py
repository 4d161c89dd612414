"""The tables that an evaluation writes, and its page: what is in them, and what is said to be left out."""

import csv
import json
import os
import re

import numpy as np
import pytest
import torch
from tests.made_answers import evaluation_of

from mpfgvc.evaluation import report
from mpfgvc.evaluation.evaluate import judged
from mpfgvc.evaluation.metrics import Answers, Evaluation, SourceMetrics
from mpfgvc.evaluation.report import write_report

TABLES = ("wrong.csv", "pairs.csv", "per_class.csv", "confusion_fusion.csv", "reliability.csv", "coverage.csv")


def rows(path):
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.reader(file))


def of_logits(classes, true, logits):
    labels = np.array(true)
    found = judged(torch.tensor(logits, dtype=torch.float32), torch.tensor(true))
    paths = tuple(f"{number}.jpg" for number in range(len(true)))
    sources = {"fusion": SourceMetrics.of(found, labels, len(classes))}
    return Evaluation(split="test", answers=Answers(paths=paths, classes=tuple(classes), sources=sources))


def drawn(classes=9, photographs=200):
    random = np.random.default_rng(0)
    true = random.integers(0, classes, photographs)
    logits = random.normal(size=(photographs, classes)) + 1.5 * np.eye(classes)[true]
    return of_logits([f"class {label}" for label in range(classes)], true.tolist(), logits)


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


def test_every_wrong_photograph_is_in_the_table_with_its_rank(tmp_path):
    write_report(of_logits(("auk", "tern", "wren"), [0, 1, 2], [[3, 0, 0], [2, 1, 3], [0, 9, 0]]), tmp_path)
    heading, *found = rows(tmp_path / "wrong.csv")
    assert heading == ["path", "true", "guess", "probability", "truth_probability", "truth_rank"]
    assert [(*row[:3], row[5]) for row in found] == [("2.jpg", "wren", "tern", "3"), ("1.jpg", "tern", "wren", "3")]
    assert float(found[1][3]) == pytest.approx(np.exp(3) / (np.exp(1) + np.exp(2) + np.exp(3)), rel=1e-5)
    assert rows(tmp_path / "pairs.csv")[1:] == [["tern", "wren", "2", "1", "1"]]
    assert {path.name for path in tmp_path.iterdir()} == {*TABLES, "report.json", "index.html"}


def test_the_document_has_intervals_around_what_they_are_of(tmp_path):
    evaluation = drawn()
    write_report(evaluation, tmp_path)
    document = json.loads((tmp_path / "report.json").read_text())
    assert document["top1"] == evaluation.top1
    for low, value, high in (
        (*(document["intervals"]["fusion"][end] for end in ("low",)), document["top1"], 1),
        (0, *(document["calibration_error"][name] for name in ("value", "high"))),
    ):
        assert low < value < high
    assert sum(int(row[2]) for row in rows(tmp_path / "reliability.csv")[1:]) == 200
    assert rows(tmp_path / "coverage.csv")[-1][0] == "1.0000"


def test_what_the_page_has_no_room_for_is_counted_on_it(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "WRONG", 5)
    monkeypatch.setattr(report, "PAIRS", 2)
    write_report(drawn(), tmp_path)
    wrong, pairs = len(rows(tmp_path / "wrong.csv")) - 1, len(rows(tmp_path / "pairs.csv")) - 1
    page = " ".join((tmp_path / "index.html").read_text().split())
    assert f"The page has 5 of {wrong}; all of them are in wrong.csv" in page
    assert f"{pairs - 2} further pairs are in pairs.csv" in page
    assert f"{wrong - 24} more are in wrong.csv" in page
    assert "this evaluation has none to draw" in page


def test_the_page_names_nothing_outside_itself(tmp_path):
    write_report(drawn(), tmp_path)
    page = (tmp_path / "index.html").read_text()
    assert not re.search(r"(src|href)=.(?!#|data:)", page)
    assert "url(" not in page
    assert "http" not in page
