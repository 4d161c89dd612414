"""The tables that an evaluation writes."""

import csv
import os

import numpy as np
import torch

from mpfgvc.evaluation.metrics import Evaluation, Scorer
from mpfgvc.evaluation.report import write_report


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
