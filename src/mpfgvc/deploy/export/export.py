"""`mpfgvc export`: a trained model as one file that needs neither this package nor its text tower.

A `.onnx` file for onnxruntime or OpenVINO. It is compared with the model on photographs before it gets its
name; an export that is off leaves nothing behind. The photographs come from a run's training and validation
split, never from its test split: what is chosen with them must not have seen what will judge it. Those of the
comparison may be named instead.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

import numpy as np
import torch
from numpy.typing import NDArray

import mpfgvc
from mpfgvc.data.listing import find_images
from mpfgvc.data.names import look
from mpfgvc.data.preprocessing import Preprocessing, prepared_pixels
from mpfgvc.data.run_photos import photos_of_run
from mpfgvc.data.samples import Photograph, Sample
from mpfgvc.deploy.export.graph import ExportedNetwork, described, onnx_bytes, quantised, tidied, with_half_weights
from mpfgvc.deploy.export.parity import FASTER, LIMITS, Limits, Parity, compare
from mpfgvc.errors import ConfigError, check_at_least, check_known
from mpfgvc.files import new_file
from mpfgvc.inference.answering import softmax
from mpfgvc.inference.description import ExportedDescription
from mpfgvc.inference.exported import ExportedBackend
from mpfgvc.inference.predictor import Predictor
from mpfgvc.inference.saved_model import SavedModel, load_model
from mpfgvc.progress import Bar
from mpfgvc.run_folder import RunFolder
from mpfgvc.terms import Engine, ExportPrecision

MOST_PHOTOS = 200
CALIBRATION = 64
"""Photographs that ranges are measured on."""
_SEED = 0
_Photo = TypeVar("_Photo")


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A file that was written, and how it compares with the model."""

    path: Path
    bytes: int
    precision: ExportPrecision
    engine: str
    """What ran it for the comparison: onnxruntime or openvino."""
    parity: Parity

    def to_dict(self) -> dict[str, Any]:
        """The document of `mpfgvc export --json`."""
        return asdict(self) | {"path": str(self.path)}


def export(
    model: str | Path,
    out: str | Path,
    *,
    precision: ExportPrecision = "fp32",
    engine: Engine = "onnxruntime",
    photos: str | Path | None = None,
    most: int = MOST_PHOTOS,
    limits: Limits | None = None,
    root: str | Path | None = None,
) -> Exported:
    """Write a run, a model folder or a model of the hub as `out`, a .onnx file.

    At most `most` photographs are compared: those below `photos`, or validation or training photographs of
    the run, whose dataset is at `root` if it has moved. `engine` runs the file for that; `limits` None are
    those of `usual_limits`.

    Raises OutputError for a file that does not answer as the model does, ConfigError for an option,
    CheckpointError for the model and DataError for the photographs.
    """
    out = Path(out)
    _check(out, precision, engine, most)
    saved = load_model(model)
    chosen = photos_for_export(
        model, saved.network.classes, photos=photos, most=most, calibrate=precision == "int8", root=root
    )
    with new_file(out) as part:
        write_export(saved, part, precision, chosen.calibration)
        after = answers_of(Predictor(ExportedBackend(part, engine=engine)), chosen.compared, "the export")
        before = answers_of(Predictor.of(saved), chosen.compared, "the model")
        parity = compare(before, after, chosen.labels, limits or usual_limits(precision, engine))
        parity.refuse_off(str(out))
        size = part.stat().st_size
    return Exported(path=out, bytes=size, precision=precision, engine=engine, parity=parity)


def answers_of(predictor: Predictor, photographs: Sequence[Photograph], name: str) -> NDArray[np.float64]:
    """The probability of each class for each photograph, one after the other. (photographs, classes)

    Without a temperature, which would only hide a difference.
    """
    bar = Bar(name, total=len(photographs))
    rows = []
    try:
        for photograph in photographs:
            image = photograph.read(at_least=predictor.preprocessing.at_least)
            (output,) = predictor.run([predictor.prepare(image)], [str(photograph.path)])
            rows.append(softmax(output.logits[None]))
            bar.advance(1)
    finally:
        bar.close()
    return np.concatenate(rows)


def usual_limits(precision: ExportPrecision, engine: Engine) -> Limits:
    """What a comparison must keep unless the caller says otherwise."""
    return FASTER if engine == "openvino" and precision != "int8" else LIMITS[precision]


def _check(out: Path, precision: str, engine: str, most: int) -> None:
    if out.suffix != ".onnx":
        raise ConfigError(f"--out must end with .onnx, got {out}")
    check_known("precision", precision, get_args(ExportPrecision))
    check_known("engine", engine, get_args(Engine))
    check_at_least(1, "most", most)


def write_export(
    saved: SavedModel, part: Path, precision: ExportPrecision, calibration: Sequence[Photograph] = ()
) -> None:
    """Write a model to a path, without any comparison; int8 needs photographs to calibrate on.

    Raises ConfigError for a network that cannot be exported, OutputError for one that is too large.
    """
    network = ExportedNetwork(saved.network, saved.preprocessing)
    example = torch.zeros(2, *saved.preprocessing.image_size, 3, dtype=torch.uint8)
    description = _describe(saved, precision)
    graph = _loaded(onnx_bytes(network, example))
    if precision == "int8":
        graph = quantised(graph, [_pixels(each, saved.preprocessing) for each in calibration])
    if precision == "fp16":
        graph = with_half_weights(graph)
    part.write_bytes(described(tidied(graph), description))


def _describe(saved: SavedModel, precision: ExportPrecision) -> ExportedDescription:
    return ExportedDescription(
        version=mpfgvc.__version__,
        model=saved.digest,
        image_tower=saved.config.image_tower.name,
        classes=saved.network.classes,
        prediction=saved.network.prediction,
        temperature=saved.network.temperature,
        precision=precision,
        preprocessing=saved.preprocessing,
        calibration=saved.calibration,
        taxonomy=saved.taxonomy,
    )


def _loaded(model: bytes) -> Any:
    import onnx

    return onnx.load_from_string(model)


def _pixels(photograph: Photograph, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    return prepared_pixels(photograph.read(at_least=preprocessing.at_least), preprocessing)


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
    return ExportPhotos(calibration=calibration, compared=compared, labels=tuple(sample.label for sample in compared))


def _named(photos: str | Path, classes: Sequence[str], most: int, calibration: tuple[Photograph, ...]) -> ExportPhotos:
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


def _mixed(photos: Sequence[_Photo]) -> tuple[_Photo, ...]:
    """In an order without order, always the same."""
    return tuple(photos[index] for index in np.random.default_rng(_SEED).permutation(len(photos)))
