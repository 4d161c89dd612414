"""Suspected labels and outliers, on numbers that are known; each photograph is judged by what has not seen it."""

import numpy as np
import torch

from mpfgvc.inference.embeddings import nearest_others
from mpfgvc.training.labels import label_suspects, out_of_fold_probabilities, outliers


def test_a_label_is_suspected_where_another_class_is_as_likely_as_for_its_own_photographs() -> None:
    """The third photograph is called 0 and looks like 1. Classes get 0.6 and 0.7 on average from their own."""
    yes = np.array([0.9, 0.8, 0.1, 0.4, 0.3, 0.2], dtype=np.float32)
    assert label_suspects(np.stack((yes, 1 - yes), axis=1), np.array([0, 0, 0, 1, 1, 1])) == [(2, 1)]


def test_a_class_without_photographs_is_never_the_guess() -> None:
    probabilities = np.array([[0.3, 0.1, 0.6], [0.2, 0.7, 0.1], [0.9, 0.1, 0.0]], dtype=np.float32)
    assert label_suspects(probabilities, np.array([0, 1, 0])) == []


def test_planted_wrong_labels_alone_are_suspected_the_least_believable_first() -> None:
    generator = np.random.default_rng(0)
    true = generator.integers(0, 5, 400)
    probabilities = generator.dirichlet(np.ones(5), 400).astype(np.float32) + 2 * np.eye(5, dtype=np.float32)[true]
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    wrong = generator.choice(400, 20, replace=False)
    given = true.copy()
    given[wrong] = (given[wrong] + 1) % 5
    suspects = [index for index, _ in label_suspects(probabilities, given)]
    assert set(suspects) < set(wrong.tolist())
    assert len(suspects) >= 5
    assert suspects == sorted(suspects, key=lambda index: probabilities[index, given[index]])


def test_a_photograph_far_from_all_others_is_an_outlier() -> None:
    generator = np.random.default_rng(0)
    embeddings = generator.normal(size=(60, 40)) * 0.1 + np.eye(40)[0]
    embeddings[17] = -np.eye(40)[0]
    _, cosines = nearest_others(embeddings.astype(np.float32), 5)
    assert [index for index, _ in outliers(cosines)] == [17]


def test_a_wrong_label_does_not_teach_the_classifier_that_judges_it() -> None:
    labels = torch.tensor([0] * 13 + [1] * 10 + [2] * 6)
    embeddings = torch.randn(29, 6, generator=torch.Generator().manual_seed(0)) * 0.2 + 3 * torch.eye(6)[labels]
    given = labels.clone()
    given[0] = 2
    probabilities = out_of_fold_probabilities(embeddings, given, 3)
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(29))
    assert probabilities[0, 2] < 0.2
    assert (probabilities[1:].argmax(dim=1) == labels[1:]).sum() >= 24
