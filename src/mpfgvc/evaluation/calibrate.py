"""Calibrate a trained model on labelled photographs that it did not learn from.

A training does it by itself with its validation photographs (setting `calibrate`); `mpfgvc calibrate` does it
later, with others or with a taxonomy. Validation photographs may have chosen the epoch, so they flatter the
model a little; photographs that decided nothing are better.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from mpfgvc.config import Source
from mpfgvc.data.loading import EvaluationLoader, labels_of
from mpfgvc.data.samples import Sample, counted
from mpfgvc.data.taxonomy import Taxonomy
from mpfgvc.data.taxonomy_file import read_taxonomy
from mpfgvc.devices import find_device, gather
from mpfgvc.errors import DataError
from mpfgvc.evaluation.calibration import CalibrationError, calibration_of, error_with_interval
from mpfgvc.evaluation.choice import choose_photos
from mpfgvc.evaluation.photo_loader import photo_loader, refuse_other_classes
from mpfgvc.inference.calibration import Calibration, softmax
from mpfgvc.inference.forward import Inference
from mpfgvc.inference.model_description import DESCRIPTION, FILES
from mpfgvc.inference.model_source import find_model_folder
from mpfgvc.inference.predictor import Predictor
from mpfgvc.inference.saved_model import SavedModel, load_model, rewrite_description
from mpfgvc.model.network import SOURCES
from mpfgvc.run_folder import RunFolder

MOST = 10_000
"""Photographs that are used of a larger set: more would not say more, and their logits must fit in memory."""
FEWEST = 20
"""Photographs below which a calibration would say nothing."""

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
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The document of `mpfgvc calibrate --json`."""
        return {
            "photographs": self.calibration.photographs,
            "count": len(self.calibration.sources[0].truth),
            "source": self.source,
            "temperature": {each.source: each.temperature for each in self.calibration.sources},
            "error": {"before": _error(self.before), "after": _error(self.after)},
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
        folder, config, split="validation", root=root, manifest=manifest, external_split="test"
    )
    saved, notes = _with_taxonomy(load_model(folder.path), taxonomy)
    predictor = Predictor.packed(saved, device=find_device(device))
    refuse_other_classes(predictor, choice.classes, folder)
    chosen = at_most(choice.samples, MOST)
    loader = photo_loader(predictor, chosen, config)
    where = "the validation split" if choice.set == "run" else "another labelled set"
    logits, labels, unreadable = collect(predictor.inference, loader, labels_of(chosen))
    _refuse_few(len(labels), where)
    photographs = f"{len(labels)} photographs of {where}"
    calibration = calibration_of(logits, labels, taxonomy=saved.taxonomy, photographs=photographs)
    with folder.claim():
        place = find_model_folder(folder.path, description=DESCRIPTION, files=FILES)
        rewrite_description(place, calibration=calibration, taxonomy=saved.taxonomy)
    left_out = [counted("photographs that cannot be read, left out", unreadable)] if unreadable else []
    source = predictor.source
    fitted = calibration.temperature_of(source)
    return Calibrated(
        calibration=calibration,
        source=source,
        before=_error_of(logits[source], labels, 1.0),
        after=_error_of(logits[source], labels, fitted),
        notes=(*choice.notes, *notes, *left_out),
    )


def calibrate_photos(
    inference: Inference,
    loader: EvaluationLoader,
    labels: Int[Tensor, " photographs"],
    *,
    taxonomy: Taxonomy | None,
    photographs: str,
) -> Calibration | None:
    """The calibration of a network, over all processes together; None for fewer than FEWEST photographs.

    `photographs` says where they come from; their number goes in front of it.
    """
    logits, truth, _ = collect(inference, loader, labels)
    if len(truth) < FEWEST:
        return None
    where = f"{len(truth)} photographs of {photographs}"
    return calibration_of(logits, truth, taxonomy=taxonomy, photographs=where)


@torch.inference_mode()
def collect(
    inference: Inference, loader: EvaluationLoader, labels: Int[Tensor, " photographs"]
) -> tuple[Logits, NDArray[np.int64], list[str]]:
    """The logits (photographs, classes) of each source, the labels, and the files that cannot be read.

    In the order of the photographs, the same in all processes.
    """
    inference.network.eval()
    rows: dict[int, tuple[NDArray[np.float32], ...]] = {}
    unreadable: list[int] = []
    for batch in loader:
        unreadable += [failure.index for failure in batch.unreadable]
        if not batch.indices:
            continue
        names = [str(loader.photographs[index].path) for index in batch.indices]
        output = inference(batch.images, names)
        parts = [getattr(output, source).float().cpu().numpy() for source in SOURCES]
        rows.update(zip(batch.indices, zip(*parts, strict=True), strict=True))
    shares = gather((rows, unreadable))
    everything = {index: each for share in shares for index, each in share[0].items()}
    indices = sorted(everything)
    missing = sorted(index for share in shares for index in share[1])
    logits: Logits = {
        source: np.stack([everything[index][place] for index in indices])
        for place, source in enumerate(SOURCES)
        if indices
    }
    return logits, labels[indices].numpy(), [str(loader.photographs[index].path) for index in missing]


def at_most(samples: Sequence[Sample], most: int) -> tuple[Sample, ...]:
    """All samples, or `most` of them at even distances."""
    if len(samples) <= most:
        return tuple(samples)
    return tuple(samples[place] for place in np.linspace(0, len(samples) - 1, most).round().astype(int))


def _with_taxonomy(saved: SavedModel, taxonomy: str | Path | None) -> tuple[SavedModel, tuple[str, ...]]:
    if taxonomy is None:
        return saved, ()
    found = read_taxonomy(taxonomy, saved.network.classes)
    return replace(saved, taxonomy=found.taxonomy), found.notes


def _refuse_few(count: int, where: str) -> None:
    if count < FEWEST:
        hint = "give more labelled photographs with --data.root or --data.manifest"
        raise DataError(f"a calibration needs at least {FEWEST} photographs, got {count} of {where}; {hint}")


def _error_of(logits: NDArray[np.float32], labels: NDArray[np.int64], temperature: float) -> CalibrationError:
    probabilities = softmax(logits, temperature)
    return error_with_interval(probabilities.max(axis=1), probabilities.argmax(axis=1) == labels)


def _error(error: CalibrationError) -> dict[str, Any]:
    return {"value": error.value, "interval": [error.interval.low, error.interval.high]}
