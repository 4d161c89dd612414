"""Probabilities of each photograph from a classifier that has not seen it: linear probes over folds."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mpfgvc.seeding import seed_of
from mpfgvc.training.logistic_regression import fit_logistic_regression

FOLDS = 5


@torch.no_grad()
def out_of_fold_probabilities(
    embeddings: Float[Tensor, "photographs width"],
    labels: Int[Tensor, " photographs"],
    *,
    classes: int,
    seed: int,
    folds: int = FOLDS,
) -> Float[Tensor, "photographs classes"]:
    """Probabilities 0..1 of all classes. Folds are drawn class by class."""
    fold_of = stratified_folds(labels, folds=folds, seed=seed)
    probabilities = torch.zeros(len(labels), classes)
    for fold in range(folds):
        held_out = fold_of == fold
        classifier = nn.Linear(embeddings.shape[1], classes)
        fit_logistic_regression(classifier, embeddings[~held_out], labels[~held_out])
        probabilities[held_out] = classifier(embeddings[held_out].float()).softmax(dim=-1)
    return probabilities


def stratified_folds(
    labels: Int[Tensor, " photographs"], *, folds: int, seed: int
) -> Int[Tensor, " photographs"]:
    """The fold of each photograph, 0 to folds - 1: each class is dealt out in a random order."""
    generator = torch.Generator().manual_seed(seed_of(seed, "folds"))
    order = torch.randperm(len(labels), generator=generator)
    by_class = order[torch.argsort(labels[order], stable=True)]
    fold_of = torch.empty_like(labels)
    fold_of[by_class] = torch.arange(len(labels)) % folds
    return fold_of
