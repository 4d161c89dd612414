"""What is kept of the logits of a photograph, beside a softmax and a sort by hand."""

import numpy as np
import pytest
import torch

from mpfgvc.evaluation.judgement import Judgement, certainty_of, judgements


def test_probabilities_and_ranks_equal_those_of_a_softmax_and_a_stable_sort() -> None:
    values = np.random.default_rng(0).normal(size=(40, 7)).round(1)
    labels = np.random.default_rng(1).integers(0, 7, 40)
    found = judgements(torch.tensor(values, dtype=torch.float32), torch.tensor(labels))
    shares = np.exp(values) / np.exp(values).sum(axis=1, keepdims=True)
    for row, label, share, each in zip(values, labels, shares, found, strict=True):
        order = np.argsort(-row, kind="stable").tolist()
        assert (each.answer, each.rank) == (order[0], order.index(label) + 1)
        assert (each.probability, each.truth) == pytest.approx((share[order[0]], share[label]), rel=1e-5)


def test_a_right_answer_has_rank_1_and_one_probability() -> None:
    (each,) = judgements(torch.tensor([[0.0, 30.0, 1.0]]), torch.tensor([1]))
    assert each == Judgement(answer=1, probability=1.0, truth=1.0, rank=1)
    assert certainty_of([each, each]).rank == (1, 1)


def test_a_temperature_changes_the_probabilities_and_no_rank() -> None:
    logits, labels = torch.tensor([[2.0, 4.0, 0.0]]), torch.tensor([0])
    (plain,), (mild,) = judgements(logits, labels), judgements(logits, labels, temperature=2.0)
    assert (mild.answer, mild.rank) == (plain.answer, plain.rank) == (1, 2)
    assert mild.probability == pytest.approx(np.exp(2) / (np.exp(1) + np.exp(2) + 1), rel=1e-5)
