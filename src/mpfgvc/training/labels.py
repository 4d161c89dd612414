"""With a trained run: suspected label errors and photographs like no other, for `mpfgvc data check --run`.

The run's image tower embeds all photographs of its dataset, and linear probes over folds judge the label of
each photograph, which they have not seen. A tower that was fine-tuned has seen the wrong labels of its
training split and hides some of them; a frozen one (recipe `frozen`) has not.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor, nn

from mpfgvc.data.loading import labels_of
from mpfgvc.data.samples import PhotoSet, Sample, counted
from mpfgvc.evaluation.labels import Suspect, label_suspects, nearest_others, outliers
from mpfgvc.inference.predictor import Predictor
from mpfgvc.processes import seed_of
from mpfgvc.training.starts import fit_logistic_regression

FOLDS = 5
NEIGHBOURS = 5
"""Nearest photographs that are looked at."""


@dataclass(frozen=True, kw_only=True)
class SuspectedLabel:
    """A photograph whose label is probably wrong, and what it probably shows. Probabilities are 0..1.

    `like` is a photograph of the guessed class that is among its nearest ones, if there is one.
    """

    path: str
    split: str
    label: str
    guess: str
    self_confidence: float
    guess_confidence: float
    like: str | None = None


@dataclass(frozen=True, kw_only=True)
class Outlier:
    """A photograph that is far from even its nearest ones: the mean of 1 - cosine, and the nearest."""

    path: str
    split: str
    label: str
    distance: float
    nearest: str


@dataclass(frozen=True, kw_only=True)
class LabelCheck:
    """What a trained tower finds suspicious, the worst first."""

    suspects: tuple[SuspectedLabel, ...]
    outliers: tuple[Outlier, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """A dictionary for JSON."""
        return asdict(self)


def check_labels(run: str | Path, photos: PhotoSet) -> LabelCheck:
    """Judge the labels of the photographs that can be read. Raises CheckpointError without a model."""
    predictor = Predictor.from_pretrained(run)
    read: list[int] = []
    rows, unreadable = [], []
    for index, found in enumerate(predictor.embed_files(photos.samples)):
        if found.embedding is None:
            unreadable.append(str(photos.samples.path(index)))
        else:
            read.append(index)
            rows.append(found.embedding)
    samples = photos.samples.take(read)
    members = Counter(sample.label for sample in samples)
    judged = [index for index, sample in enumerate(samples) if members[sample.label] >= FOLDS]
    rare = [str(sample.path) for sample in samples if members[sample.label] < FOLDS]
    left_out = {
        "photographs that cannot be read, left out of the label check": unreadable,
        f"photographs of classes with fewer than {FOLDS}, whose labels were not judged": rare,
    }
    notes = tuple(counted(what, names, len(photos.samples)) for what, names in left_out.items() if names)
    if len({samples[index].label for index in judged}) < 2:
        return LabelCheck(suspects=(), outliers=(), notes=notes)
    embeddings, labels = torch.from_numpy(np.stack(rows)), labels_of(samples)
    near, cosines = nearest_others(embeddings.numpy(), NEIGHBOURS)
    probabilities = out_of_fold_probabilities(embeddings[judged], labels[judged], classes=len(photos.classes), seed=0)
    suspects = label_suspects(probabilities.numpy(), labels[judged].numpy())
    return LabelCheck(
        suspects=tuple(
            _suspect(photos.classes, samples, near[judged[suspect.index]], judged[suspect.index], suspect)
            for suspect in suspects
        ),
        outliers=tuple(
            Outlier(
                path=str(samples[index].path),
                split=samples[index].split,
                label=photos.classes[samples[index].label],
                distance=round(distance, 4),
                nearest=str(samples[int(near[index][0])].path),
            )
            for index, distance in outliers(cosines)
        ),
        notes=notes,
    )


def _suspect(
    classes: Sequence[str], samples: Sequence[Sample], near: NDArray[np.int64], index: int, suspect: Suspect
) -> SuspectedLabel:
    like = next((str(samples[i].path) for i in near.tolist() if samples[i].label == suspect.guess), None)
    return SuspectedLabel(
        path=str(samples[index].path),
        split=samples[index].split,
        label=classes[suspect.given],
        guess=classes[suspect.guess],
        self_confidence=round(suspect.self_confidence, 6),
        guess_confidence=round(suspect.guess_confidence, 6),
        like=like,
    )


@torch.no_grad()
def out_of_fold_probabilities(
    embeddings: Float[Tensor, "photographs width"], labels: Int[Tensor, " photographs"], *, classes: int, seed: int
) -> Float[Tensor, "photographs classes"]:
    """Probabilities 0..1 of all classes. Folds are drawn class by class."""
    fold_of = stratified_folds(labels, folds=FOLDS, seed=seed)
    probabilities = torch.zeros(len(labels), classes)
    for fold in range(FOLDS):
        held_out = fold_of == fold
        classifier = nn.Linear(embeddings.shape[1], classes)
        fit_logistic_regression(classifier, embeddings[~held_out], labels[~held_out])
        probabilities[held_out] = classifier(embeddings[held_out].float()).softmax(dim=-1)
    return probabilities


def stratified_folds(labels: Int[Tensor, " photographs"], *, folds: int, seed: int) -> Int[Tensor, " photographs"]:
    """The fold of each photograph, 0 to folds - 1: each class is dealt out in a random order."""
    generator = torch.Generator().manual_seed(seed_of(seed, "folds"))
    order = torch.randperm(len(labels), generator=generator)
    by_class = order[torch.argsort(labels[order], stable=True)]
    fold_of = torch.empty_like(labels)
    fold_of[by_class] = torch.arange(len(labels)) % folds
    return fold_of
