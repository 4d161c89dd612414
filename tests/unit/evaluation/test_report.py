"""The tables that an evaluation writes, and its page: what is in them, and what is said to be left out."""

import csv
import os
import re

import numpy as np
import pytest
import torch

from mpfgvc.evaluation import report_page
from mpfgvc.evaluation.metrics import Answers
from mpfgvc.evaluation.judgement import certainty_of, judgements
from mpfgvc.evaluation.learning import learning_of
from mpfgvc.evaluation.metrics import Evaluation, Scorer
from mpfgvc.evaluation.report import write_report
from mpfgvc.storage.class_rows import ClassRow, format_class_rows


def evaluated(classes, true, predicted):
    scorer = Scorer(classes, ["vision", "fusion"])
    logits = torch.eye(len(classes))
    scorer.add({"vision": logits[true], "fusion": logits[predicted]}, torch.tensor(true))
    return Evaluation(split="test", classes=tuple(classes), sources=scorer.metrics())


def rows(path):
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.reader(file))


def test_the_confusion_table_has_a_row_for_each_pair_that_occurred(tmp_path):
    classes = ("auk", 'tern, "arctic"', "wren")
    write_report(evaluated(classes, [0, 0, 1, 1, 1], [0, 1, 1, 1, 0]), tmp_path / "out")
    assert rows(tmp_path / "out" / "confusion_fusion.csv") == [
        ["true", "predicted", "count"],
        ["auk", "auk", "1"],
        ["auk", 'tern, "arctic"', "1"],
        ['tern, "arctic"', "auk", "1"],
        ['tern, "arctic"', 'tern, "arctic"', "2"],
    ]
    assert len(rows(tmp_path / "out" / "confusion_vision.csv")) == 3


def test_per_class_has_counts_and_accuracies_and_nothing_for_a_class_without_photographs(tmp_path):
    write_report(evaluated(("auk", "tern", "wren"), [0, 0, 0, 1], [0, 1, 1, 1]), tmp_path)
    assert rows(tmp_path / "per_class.csv") == [
        ["class", "count", "vision", "fusion"],
        ["auk", "3", "1.0000", "0.3333"],
        ["tern", "1", "1.0000", "1.0000"],
        ["wren", "0", "", ""],
    ]


def test_a_class_name_that_is_not_utf8_keeps_its_bytes(tmp_path):
    name = os.fsdecode(b"f\xe9e")
    write_report(evaluated((name, "tern"), [0, 1], [0, 1]), tmp_path)
    assert rows(tmp_path / "per_class.csv")[1][0] == name


def test_a_table_of_8142_classes_stays_small(tmp_path):
    labels = np.random.default_rng(0).integers(0, 8142, 50).tolist()
    write_report(evaluated([f"class {label}" for label in range(8142)], labels, labels[::-1]), tmp_path)
    assert len(rows(tmp_path / "confusion_fusion.csv")) <= 51


TABLES = {"wrong.csv", "suspects.csv", "pairs.csv", "per_class.csv", "confusion_fusion.csv"}
WITH_SCIPY = {"reliability.csv", "coverage.csv", "report.json", "index.html"}


def judged(classes, true, logits):
    """An evaluation that kept what was said about each photograph."""
    scores, labels = torch.tensor(logits, dtype=torch.float32), torch.tensor(true)
    scorer, found = Scorer(classes, ["fusion"]), judgements(scores, labels)
    scorer.add({"fusion": scores}, labels)
    answers = Answers(
        paths=tuple(f"{number}.jpg" for number in range(len(true))),
        labels=tuple(classes[label] for label in true),
        predicted={"fusion": tuple(classes[each.answer] for each in found)},
        certainty={"fusion": certainty_of(found)},
    )
    return Evaluation(split="test", classes=tuple(classes), sources=scorer.metrics(), answers=answers)


def drawn(classes=9, photographs=200):
    random = np.random.default_rng(0)
    true = random.integers(0, classes, photographs)
    logits = random.normal(size=(photographs, classes)) + 1.5 * np.eye(classes)[true]
    return judged([f"class {label}" for label in range(classes)], true.tolist(), logits)


def test_every_wrong_photograph_is_in_the_table_with_its_rank(tmp_path):
    write_report(judged(("auk", "tern", "wren"), [0, 1, 2], [[3, 0, 0], [2, 1, 3], [0, 9, 0]]), tmp_path)
    heading, *found = rows(tmp_path / "wrong.csv")
    assert heading == ["path", "true", "guess", "probability", "truth_probability", "truth_rank"]
    assert [(*row[:3], row[5]) for row in found] == [
        ("2.jpg", "wren", "tern", "3"),
        ("1.jpg", "tern", "wren", "3"),
    ]
    assert float(found[1][3]) == pytest.approx(np.exp(3) / (np.exp(1) + np.exp(2) + np.exp(3)), rel=1e-5)
    assert rows(tmp_path / "pairs.csv")[1:] == [["tern", "wren", "2", "1", "1"]]
    assert {path.name for path in tmp_path.iterdir()} == TABLES | WITH_SCIPY


def test_what_the_page_has_no_room_for_is_counted_on_it(tmp_path, monkeypatch):
    monkeypatch.setattr(report_page, "WRONG", 5)
    monkeypatch.setattr(report_page, "PAIRS", 2)
    write_report(drawn(), tmp_path)
    wrong, pairs = len(rows(tmp_path / "wrong.csv")) - 1, len(rows(tmp_path / "pairs.csv")) - 1
    page = " ".join((tmp_path / "index.html").read_text().split())
    assert f"The page has 5 of {wrong}; all of them are in wrong.csv" in page
    assert f"{pairs - 2} further pairs are in pairs.csv" in page
    assert f"{wrong - 24} more are in suspects.csv" in page
    assert "this evaluation has none to draw" in page
    assert "Not known: there is no run behind this evaluation." in page


def test_the_page_names_nothing_outside_itself(tmp_path):
    write_report(drawn(), tmp_path)
    page = (tmp_path / "index.html").read_text()
    assert not re.search(r"(src|href)=.(?!#|data:)", page)
    assert "url(" not in page
    assert "http" not in page


def test_without_the_extra_the_tables_are_written_and_a_line_says_what_is_missing(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("mpfgvc.evaluation.report.missing", lambda *names: "scipy: pip install x")
    write_report(drawn(), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == TABLES
    assert "has no index.html, report.json, reliability.csv and coverage.csv: they need scipy" in (
        capsys.readouterr().err
    )


def test_the_slowest_classes_come_first_and_one_without_photographs_is_left_out(tmp_path):
    file = tmp_path / "class_accuracy.csv"
    assert "validation photographs" in learning_of(file, ("auk", "tern", "wren")).reason
    table = [ClassRow("stage1", 1, 5, (0.5, np.nan, 0.0)), ClassRow("stage1", 2, 10, (1.0, np.nan, 1.0))]
    file.write_text(format_class_rows(("auk", "tern", "wren"), table))
    found = learning_of(file, ("auk", "tern", "wren")).classes
    assert [(each.label, each.mean) for each in found] == [(2, 0.5), (0, 0.75)]
    assert "cannot be read" in learning_of(file, ("auk", "tern")).reason
