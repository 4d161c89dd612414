"""Every photograph is judged by a classifier that has not seen it."""

import torch

from mpfgvc.training.labels import out_of_fold_probabilities, stratified_folds

LABELS = torch.tensor([0] * 13 + [1] * 10 + [2] * 6)


def test_each_fold_has_its_share_of_every_class() -> None:
    folds = stratified_folds(LABELS, folds=5, seed=3)
    for label, count in ((0, 13), (1, 10), (2, 6)):
        members = folds[label == LABELS].bincount(minlength=5)
        assert members.sum() == count
        assert members.max() - members.min() <= 1
    assert not torch.equal(folds, stratified_folds(LABELS, folds=5, seed=4))


def test_a_wrong_label_does_not_teach_the_classifier_that_judges_it() -> None:
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(29, 6, generator=generator) * 0.2 + 3 * torch.eye(6)[LABELS]
    given = LABELS.clone()
    given[0] = 2
    probabilities = out_of_fold_probabilities(embeddings, given, classes=3, seed=0)
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(29))
    assert probabilities[0, 2] < 0.2
    assert (probabilities[1:].argmax(dim=1) == LABELS[1:]).sum() >= 24
