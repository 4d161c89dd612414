"""The photographs that an export looks at: some to calibrate int8 on, others to compare the answers on.

Both come from a run's training and validation split, never from its test split: what is chosen with them
must not have seen what will judge it. The photographs of the comparison may be named instead.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from mpfgvc.data.listing import find_images
from mpfgvc.data.names import look
from mpfgvc.data.run_photos import photos_of_run
from mpfgvc.data.samples import Photograph, Sample
from mpfgvc.errors import ConfigError
from mpfgvc.run_folder import RunFolder

CALIBRATION = 64
"""Photographs that ranges are measured on."""
_SEED = 0
Each = TypeVar("Each")


@dataclass(frozen=True, kw_only=True)
class ExportPhotos:
    """`calibration` to measure ranges on; `compared` with their labels, None where one is not known."""

    calibration: tuple[Photograph, ...]
    compared: tuple[Photograph, ...]
    labels: tuple[int | None, ...]


def photos_for_export(
    model: str | Path,
    classes: Sequence[str],
    *,
    photos: str | Path | None,
    most: int,
    calibrate: bool,
    root: str | Path | None,
) -> ExportPhotos:
    """At most `most` photographs to compare on, and those to calibrate on if that is wanted.

    `photos` names a folder; a photograph in it is of a class if the folder that it lies in has its name.
    Without it they are of the run: its validation split, or training photographs that nothing is calibrated
    on. Raises ConfigError for a model that is not a run where one is needed, DataError for a folder without
    photographs.
    """
    train, validation = _splits_of(model, root) if calibrate or photos is None else ((), ())
    calibration = train[:CALIBRATION] if calibrate else ()
    if photos is not None:
        return _named(photos, classes, most, calibration)
    compared = (validation or train[len(calibration) :] or train)[:most]
    return ExportPhotos(
        calibration=calibration, compared=compared, labels=tuple(sample.label for sample in compared)
    )


def _named(
    photos: str | Path, classes: Sequence[str], most: int, calibration: tuple[Photograph, ...]
) -> ExportPhotos:
    found = _mixed(find_images([str(photos)]).photographs)[:most]
    labels = {look(name): label for label, name in enumerate(classes)}
    return ExportPhotos(
        calibration=calibration,
        compared=tuple(Photograph(path=path) for path in found),
        labels=tuple(labels.get(look(path.parent.name)) for path in found),
    )


def _splits_of(model: str | Path, root: str | Path | None) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """Training and validation photographs of a run, the classes mixed."""
    folder = None if str(model).startswith("hf://") else RunFolder(model)
    if folder is None or not folder.is_run:
        rule = f"{model} is not a run folder, so it has no photographs to compare or calibrate on"
        hint = "give the run folder, or name some with --photos (int8 is calibrated on those of the run)"
        raise ConfigError(f"{rule}; {hint}")
    restored = photos_of_run(folder, root=root)
    return _mixed(restored.found("train")), _mixed(restored.found("validation"))


def _mixed(photos: Sequence[Each]) -> tuple[Each, ...]:
    """In an order without order, always the same."""
    return tuple(photos[place] for place in np.random.default_rng(_SEED).permutation(len(photos)))
