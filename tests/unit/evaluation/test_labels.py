"""Suspected labels and outliers, on numbers that are known."""

import numpy as np

from mpfgvc.evaluation.labels import by_self_confidence, label_suspects, nearest_others, outliers

LABELS = np.array([0, 0, 0, 1, 1, 1])
PROBABILITIES = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.4, 0.6], [0.3, 0.7], [0.2, 0.8]], dtype=np.float32)
"""The third photograph is called 0 and looks like 1. Classes get 0.6 and 0.7 on average from their own."""


def test_the_least_believable_label_comes_first() -> None:
    assert by_self_confidence(PROBABILITIES, LABELS).tolist() == [2, 3, 4, 1, 5, 0]


def test_a_label_is_suspected_where_another_class_is_as_likely_as_for_its_own_photographs() -> None:
    (suspect,) = label_suspects(PROBABILITIES, LABELS)
    assert (suspect.index, suspect.given, suspect.guess) == (2, 0, 1)
    assert (round(suspect.self_confidence, 3), round(suspect.guess_confidence, 3)) == (0.1, 0.9)


def test_a_class_without_photographs_is_never_the_guess() -> None:
    probabilities = np.array([[0.3, 0.1, 0.6], [0.2, 0.7, 0.1], [0.9, 0.1, 0.0]], dtype=np.float32)
    assert label_suspects(probabilities, np.array([0, 1, 0])) == []


def test_planted_wrong_labels_are_found_before_right_ones() -> None:
    generator = np.random.default_rng(0)
    true = generator.integers(0, 5, 400)
    probabilities = generator.dirichlet(np.ones(5), 400).astype(np.float32) + 2 * np.eye(5, dtype=np.float32)[true]
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    wrong = generator.choice(400, 20, replace=False)
    given = true.copy()
    given[wrong] = (given[wrong] + 1) % 5
    assert set(by_self_confidence(probabilities, given)[:20].tolist()) == set(wrong.tolist())
    suspects = {each.index for each in label_suspects(probabilities, given)}
    assert suspects < set(wrong.tolist())
    assert len(suspects) >= 5


def test_neighbours_are_the_nearest_by_cosine_and_never_the_photograph_itself() -> None:
    embeddings = np.random.default_rng(0).normal(size=(1500, 7)).astype(np.float32)
    near, cosines = nearest_others(embeddings, 5)
    units = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    expected = units @ units.T
    np.fill_diagonal(expected, -2)
    assert (near == np.argsort(-expected, axis=1)[:, :5]).all()
    np.testing.assert_allclose(cosines, -np.sort(-expected, axis=1)[:, :5], atol=1e-5)
    assert nearest_others(embeddings[:3], 5)[0].shape == (3, 2)
    assert nearest_others(embeddings[:1], 5)[0].shape == (1, 0)


def test_a_photograph_far_from_all_others_is_an_outlier() -> None:
    generator = np.random.default_rng(0)
    embeddings = generator.normal(size=(60, 40)) * 0.1 + np.eye(40)[0]
    embeddings[17] = -np.eye(40)[0]
    _, cosines = nearest_others(embeddings.astype(np.float32), 5)
    assert [index for index, _ in outliers(cosines)] == [17]
