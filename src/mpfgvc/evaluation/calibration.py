"""Make probabilities mean something: fit the temperature of a model to photographs it did not learn from.

The temperature is the T that minimises the mean of -log softmax(logits / T)[label] (Guo et al., ICML 2017).
Labels are smoothed by 1 / (photographs + 2), so that a few photographs that are all right do not make it 0
(Platt, 1999).

A training calibrates by itself with its validation photographs (setting `calibrate`); `mpfgvc calibrate`
does it later, with others or with a taxonomy. Validation photographs may have chosen the epoch, so they
flatter the model a little; photographs that decided nothing are better.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from mpfgvc.data.loading import EvaluationLoader, labels_of
from mpfgvc.data.samples import Samples, counted
from mpfgvc.data.taxonomy import CLASS, Taxonomy
from mpfgvc.data.taxonomy_file import read_taxonomy
from mpfgvc.distributed import find_device
from mpfgvc.errors import DataError
from mpfgvc.evaluation.evaluate import absent_classes, choose_photos, over_photos, refuse_other_classes, run_loader
from mpfgvc.evaluation.statistics import CalibrationError, error_with_interval
from mpfgvc.inference.answering import Calibration, LevelScores, SourceCalibration, softmax
from mpfgvc.inference.description import find_model_folder
from mpfgvc.inference.forward import Inference
from mpfgvc.inference.predictor import Predictor
from mpfgvc.inference.saved_model import load_model, rewrite_description
from mpfgvc.model.network import SOURCES
from mpfgvc.run_folder import RunFolder
from mpfgvc.terms import Source

MOST_PHOTOGRAPHS = 10_000
"""That are used of a larger set: more would not say more, and their logits must fit in memory."""
FEWEST_PHOTOGRAPHS = 20
"""Below which a calibration would say nothing."""
VALIDATION = "the validation split"
"""What a calibration says of the photographs of its run."""
COLDEST, HOTTEST = 0.02, 50.0
"""Between these a temperature is looked for."""
RISKS = (0.01, 0.05, 0.1)
"""Shares of answers that may be wrong, for which `calibrate` says how much is answered."""
_HALVINGS = 60
_DIGITS = 6
"""Of a stored probability."""
_MORE = "give labelled photographs that it was not trained on, with --data.root or --data.manifest"

Logits = dict[Source, NDArray[np.float32]]


@dataclass(frozen=True, kw_only=True)
class Calibrated:
    """A calibration, and the expected calibration error of the model's answers before and after it.

    Both errors are on the photographs that the temperature was fitted on.
    """

    calibration: Calibration
    source: Source
    """The source that the model answers with."""
    before: CalibrationError
    after: CalibrationError
    taxonomy: Taxonomy | None = None
    notes: tuple[str, ...] = ()

    @property
    def answered(self) -> dict[float, dict[str, float]]:
        """How much is answered at each level or a finer one, 0..1, by the share of answers that may be wrong.

        With back-off, on the photographs that the temperature was fitted on.
        """
        scores = self.calibration.sources[[known.source for known in self.calibration.sources].index(self.source)]
        found: dict[float, dict[str, float]] = {}
        for risk in RISKS:
            open_ones, found[risk] = np.ones(len(scores.truth), bool), {}
            bounds = scores.thresholds(risk, back_off=True, taxonomy=self.taxonomy)
            for level, bound in zip(scores.levels, bounds, strict=True):
                open_ones &= np.array(level.confidence) < bound
                found[risk][level.level] = float(1 - open_ones.mean())
        return found

    def to_dict(self) -> dict[str, Any]:
        """The document of `mpfgvc calibrate --json`."""
        return {
            "photographs": self.calibration.photographs,
            "count": len(self.calibration.sources[0].truth),
            "source": self.source,
            "temperature": {source.source: source.temperature for source in self.calibration.sources},
            "error": {"before": self.before.to_dict(), "after": self.after.to_dict()},
            "answered": {f"{risk:g}": shares for risk, shares in self.answered.items()},
        }


def calibrate(
    run: str | Path,
    *,
    root: str | Path | None = None,
    manifest: str | Path | None = None,
    taxonomy: str | Path | None = None,
    device: str = "auto",
) -> Calibrated:
    """Calibrate the model of a run on its validation split, and store what was found in the model.

    `root` and `manifest` say where the dataset is now, or name another labelled set, without the
    photographs that the run was trained on. `taxonomy` is a file as `data.taxonomy` takes it; None
    keeps the one that the model has. Raises CheckpointError for a run without a model, DataError for too few
    photographs and for a taxonomy that lacks a class.
    """
    folder = RunFolder.open(run)
    config = folder.read_config({"device": device})
    choice = choose_photos(
        folder, config, split="validation", root=root, manifest=manifest, external_split="test", hint=_MORE
    )
    where = VALIDATION if choice.set == "run" else "another labelled set"
    samples, notes, saved = at_most(choice.samples, MOST_PHOTOGRAPHS), choice.notes, load_model(folder.path)
    if taxonomy is not None:
        found = read_taxonomy(taxonomy, saved.network.classes)
        saved, notes = replace(saved, taxonomy=found.taxonomy), (*notes, *found.notes)
    predictor = Predictor.of(saved, device=find_device(device))
    refuse_other_classes(predictor, choice, folder)
    loader = run_loader(predictor, samples, config)
    logits, labels, unreadable = collect(predictor.inference, loader, labels_of(samples))
    if unreadable:
        notes = (*notes, counted("photographs that cannot be read, left out", unreadable))
    if len(labels) < FEWEST_PHOTOGRAPHS:
        rule = f"a calibration needs at least {FEWEST_PHOTOGRAPHS} photographs, got {len(labels)} of {where}"
        left_out = f" ({'; '.join(notes)})" if notes else ""
        raise DataError(f"{rule}{left_out}; {_MORE}")
    photographs = f"{len(labels)} photographs of {where}"
    calibration = calibration_of(logits, labels, taxonomy=saved.taxonomy, photographs=photographs)
    with folder.claim():
        model = find_model_folder(folder.path)
        rewrite_description(model, calibration=calibration, taxonomy=saved.taxonomy)
    source = predictor.source
    return Calibrated(
        calibration=calibration,
        source=source,
        taxonomy=saved.taxonomy,
        before=_error_of(logits[source], labels, 1.0),
        after=_error_of(logits[source], labels, calibration.temperature_of(source)),
        notes=(*notes, *absent_classes(choice.classes, labels)),
    )


def calibrate_photos(
    inference: Inference,
    loader: EvaluationLoader,
    labels: Int[Tensor, " photographs"],
    *,
    taxonomy: Taxonomy | None,
    photographs: str,
) -> Calibration | None:
    """The calibration of a network, over all processes together; None for too few photographs.

    `photographs` says where they come from; their number goes in front of it.
    """
    logits, truth, _ = collect(inference, loader, labels)
    if len(truth) < FEWEST_PHOTOGRAPHS:
        return None
    return calibration_of(logits, truth, taxonomy=taxonomy, photographs=f"{len(truth)} photographs of {photographs}")


def collect(
    inference: Inference, loader: EvaluationLoader, labels: Int[Tensor, " photographs"]
) -> tuple[Logits, NDArray[np.int64], tuple[str, ...]]:
    """The logits (photographs, classes) of each source, the labels, and the files that cannot be read.

    In the order of the photographs, the same in all processes.
    """
    rows, unreadable = over_photos(
        inference,
        loader,
        lambda output, _: torch.stack([getattr(output, source) for source in SOURCES], dim=1).float().cpu().numpy(),
    )
    stacked = np.stack(list(rows.values()), axis=1) if rows else np.zeros((len(SOURCES), 0, 0), np.float32)
    return dict(zip(SOURCES, stacked, strict=True)), labels[list(rows)].numpy(), unreadable


def at_most(samples: Samples, most: int) -> Samples:
    """All samples, or `most` of them at even distances."""
    if len(samples) <= most:
        return samples
    return samples.take(np.linspace(0, len(samples) - 1, most).round())


def calibration_of(
    logits: Mapping[Source, NDArray[np.floating]],
    labels: NDArray[np.int64],
    *,
    taxonomy: Taxonomy | None,
    photographs: str,
) -> Calibration:
    """What labelled photographs say about each source; `photographs` says which they are.

    Logits are (photographs, classes).
    """
    sources = []
    for source, rows in logits.items():
        temperature = fit_temperature(rows, labels)
        probabilities = softmax(rows, temperature)
        levels = [_level(CLASS, probabilities, labels)]
        for index, name in enumerate(taxonomy.levels if taxonomy else ()):
            groups, truth = taxonomy.probabilities(index, probabilities), taxonomy.members(index)[labels]  # type: ignore[union-attr]
            levels.append(_level(name, groups, truth))
        of_label = _stored(probabilities[np.arange(len(labels)), labels])
        sources.append(SourceCalibration(source=source, temperature=temperature, truth=of_label, levels=tuple(levels)))
    return Calibration(photographs=photographs, sources=tuple(sources))


def fit_temperature(logits: NDArray[np.floating], labels: NDArray[np.int64]) -> float:
    """The temperature with the smallest mean negative log-likelihood, between COLDEST and HOTTEST.

    The loss is convex in 1 / T, and its derivative is the mean of (expected logit - logit of the smoothed
    label); so its zero is found by halving.
    """
    rows = logits.astype(np.float64)
    doubt = 1 / (len(labels) + 2)
    of_label = (1 - doubt) * rows[np.arange(len(labels)), labels].mean() + doubt * rows.mean()
    low, high = 1 / HOTTEST, 1 / COLDEST
    for _ in range(_HALVINGS):
        middle = np.sqrt(low * high)
        expected = (softmax(rows, 1 / middle) * rows).sum(axis=1).mean()
        low, high = (middle, high) if expected < of_label else (low, middle)
    return float(1 / np.sqrt(low * high))


def _level(name: str, probabilities: NDArray[np.float64], truth: NDArray[np.int64]) -> LevelScores:
    right = probabilities.argmax(axis=1) == truth
    return LevelScores(level=name, confidence=_stored(probabilities.max(axis=1)), right=tuple(right.tolist()))


def _stored(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(np.clip(np.round(values, _DIGITS), 0.0, 1.0).tolist())


def _error_of(logits: NDArray[np.float32], labels: NDArray[np.int64], temperature: float) -> CalibrationError:
    probabilities = softmax(logits, temperature)
    return error_with_interval(probabilities.max(axis=1), probabilities.argmax(axis=1) == labels)
