"""`mpfgvc export`: a trained model as one file that needs neither this package nor its text tower.

A `.onnx` file for onnxruntime or OpenVINO. It is compared with the model on photographs before it gets its
name; an export that is off leaves nothing behind.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray

import mpfgvc
from mpfgvc.data.preprocessing import Preprocessing, prepared_pixels
from mpfgvc.data.samples import Photograph
from mpfgvc.deploy.export_photos import photos_for_export
from mpfgvc.deploy.graph import ExportedNetwork, onnx_bytes
from mpfgvc.deploy.onnx_model import described, quantised, tidied, with_half_weights
from mpfgvc.deploy.parity import FASTER, LIMITS, Limits, Parity, compare
from mpfgvc.errors import ConfigError
from mpfgvc.files import new_file
from mpfgvc.inference.arguments import refuse_below, refuse_unknown
from mpfgvc.inference.calibration import softmax
from mpfgvc.inference.exported import ExportedBackend, ExportedDescription
from mpfgvc.inference.predictor import Predictor
from mpfgvc.inference.saved_model import SavedModel, load_model
from mpfgvc.progress import Bar
from mpfgvc.terms import Engine, ExportPrecision

MOST_PHOTOS = 200


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
        return {
            "path": str(self.path),
            "bytes": self.bytes,
            "precision": self.precision,
            "engine": self.engine,
            "parity": self.parity.to_dict(),
        }


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
    refuse_unknown("precision", precision, get_args(ExportPrecision))
    refuse_unknown("engine", engine, get_args(Engine))
    refuse_below(1, "most", most)


def write_export(
    saved: SavedModel,
    part: Path,
    precision: ExportPrecision,
    calibration: Sequence[Photograph] = (),
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
