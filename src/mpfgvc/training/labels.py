"""With a trained run: suspected label errors and photographs like no other, for `mpfgvc data check --run`.

The run's image tower embeds all photographs of its dataset, and linear probes over folds judge the label of
each photograph, which they have not seen. A tower that was fine-tuned has seen the wrong labels of its
training split and hides some of them; a frozen one (recipe `frozen`) has not.

Suspects are ranked by self-confidence, the probability of the label that is given. A photograph is a suspect
if another class gets at least the probability that photographs of that class get on average, so no threshold
has to be chosen: Northcutt, Jiang and Chuang, "Confident Learning", JAIR 2021.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor, nn

from mpfgvc.data.doctor import Finding, finding_of
from mpfgvc.data.loading import labels_of
from mpfgvc.data.samples import PhotoSet, counted
from mpfgvc.inference.embeddings import nearest_others
from mpfgvc.inference.predictor import Predictor
from mpfgvc.processes import seed_of
from mpfgvc.training.starts import fit_logistic_regression

FOLDS = 5
NEIGHBOURS = 5
"""Nearest photographs that are looked at."""
FAR = 6.0
"""An outlier is this many times farther from the median distance than the median photograph is."""


def label_findings(run: str | Path, photos: PhotoSet) -> Iterator[Finding]:
    """The suspected labels and then the photographs like no other, the worst first, and what was not judged.

    The first of the classes is the one given, the second the one that it probably is. Raises CheckpointError
    without a model.
    """
    predictor = Predictor.from_pretrained(run)
    found = {index: embedded.embedding for index, embedded in enumerate(predictor.embed_files(photos.samples))}
    embeddings = {index: embedding for index, embedding in found.items() if embedding is not None}
    read, rows = list(embeddings), np.array(list(embeddings.values()))
    samples = photos.samples.take(read)
    members = samples.counts(len(photos.classes))
    judged = np.flatnonzero(members[samples.labels] >= FOLDS)
    left_out = {
        "photographs that cannot be read, left out of the label check": found.keys() - embeddings.keys(),
        f"photographs of classes with fewer than {FOLDS}, whose labels were not judged": [
            read[index] for index in np.flatnonzero(members[samples.labels] < FOLDS)
        ],
    }
    if len(set(samples.labels[judged].tolist())) > 1:
        near, cosines = nearest_others(rows, NEIGHBOURS)
        labels = labels_of(samples)[judged]
        probabilities = out_of_fold_probabilities(torch.from_numpy(rows[judged]), labels, len(photos.classes)).numpy()
        for index, guess in label_suspects(probabilities, labels.numpy()):
            sample = samples[judged[index]]
            given, rather = (
                f"{photos.classes[label]}, {100 * probabilities[index, label]:.0f} %" for label in (sample.label, guess)
            )
            like = next((samples.path(i) for i in near[judged[index]].tolist() if samples.labels[i] == guess), None)
            finding = finding_of(photos, "suspected label", [sample], f"called {given}; rather {rather}", beside=like)
            yield replace(finding, classes=(photos.classes[sample.label], photos.classes[guess]))
        for index, distance in outliers(cosines):
            text = f"{photos.classes[samples.labels[index]]}; distance to the nearest ones {distance:.2f}"
            yield finding_of(photos, "like no other", [samples[index]], text, beside=samples.path(near[index][0]))
    for what, indices in left_out.items():
        if indices:
            names = [str(photos.samples.path(index)) for index in sorted(indices)]
            yield Finding(kind="note", text=counted(what, names, len(photos.samples)))


def label_suspects(probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> list[tuple[int, int]]:
    """The photographs whose label is probably wrong, by their index, and the class that they probably show.

    `probabilities` (photographs, classes) must be out of fold. The worst come first.
    """
    own, classes = probabilities[np.arange(len(labels)), labels], probabilities.shape[1]
    counts = np.bincount(labels, minlength=classes)
    means = np.bincount(labels, weights=own, minlength=classes) / np.maximum(counts, 1)
    usual = np.where(counts > 0, means, 2.0).astype(np.float32)  # a class without photographs is never the guess
    beaten = np.where(probabilities >= usual, probabilities, 0.0)
    guesses = beaten.argmax(axis=1)
    suspected = (beaten.max(axis=1) > 0) & (guesses != labels)
    return [(int(index), int(guesses[index])) for index in np.argsort(own, kind="stable") if suspected[index]]


def outliers(cosines: NDArray[np.float32]) -> list[tuple[int, float]]:
    """Photographs far from even their nearest ones, and their mean distance 1 - cosine; farthest first."""
    distances = 1 - cosines.mean(axis=1)
    middle = float(np.median(distances))
    spread = max(float(np.median(np.abs(distances - middle))), 1e-6)
    order = np.argsort(-distances, kind="stable")
    return [(int(index), float(distances[index])) for index in order if distances[index] > middle + FAR * spread]


@torch.no_grad()
def out_of_fold_probabilities(
    embeddings: Float[Tensor, "photographs width"], labels: Int[Tensor, " photographs"], classes: int, *, seed: int = 0
) -> Float[Tensor, "photographs classes"]:
    """Probabilities 0..1 of all classes. Folds are drawn class by class: each class is dealt out at random."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed_of(seed, "folds")))
    by_class = order[torch.argsort(labels[order], stable=True)]
    fold_of = torch.empty_like(labels)
    fold_of[by_class] = torch.arange(len(labels)) % FOLDS
    probabilities = torch.zeros(len(labels), classes)
    for fold in range(FOLDS):
        held_out = fold_of == fold
        classifier = nn.Linear(embeddings.shape[1], classes)
        fit_logistic_regression(classifier, embeddings[~held_out], labels[~held_out])
        probabilities[held_out] = classifier(embeddings[held_out].float()).softmax(dim=-1)
    return probabilities
