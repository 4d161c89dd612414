"""`mpfgvc export`: a trained model as one file that needs neither this package nor its text tower.

A `.onnx` file for onnxruntime or OpenVINO. It is compared with the model on photographs before it gets its
name; an export that is off leaves nothing behind. The photographs come from a run's training and validation
split, never from its test split: what is chosen with them must not have seen what will judge it. Those of the
comparison may be named instead.

In 8 bits the probabilities are others, so the calibration of the model does not hold for the file: the file is
calibrated anew on the validation photographs, by its own answers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, get_args

import numpy as np
import torch
from numpy.typing import NDArray

import mpfgvc
from mpfgvc.data.listing import find_images
from mpfgvc.data.names import look
from mpfgvc.data.preprocessing import prepared_pixels
from mpfgvc.data.run_photos import photos_of_run
from mpfgvc.data.samples import Photograph, Sample
from mpfgvc.deploy.export.graph import ExportedNetwork, described, onnx_bytes, quantised, with_half_weights
from mpfgvc.errors import ConfigError, OutputError, check_at_least, check_known
from mpfgvc.evaluation.calibration import MOST_PHOTOGRAPHS, VALIDATION, calibration_of
from mpfgvc.files import new_file
from mpfgvc.inference.answering import Calibration, softmax
from mpfgvc.inference.description import ExportedDescription
from mpfgvc.inference.exported import ExportedBackend
from mpfgvc.inference.predictor import Predictor
from mpfgvc.inference.saved_model import SavedModel, load_model
from mpfgvc.progress import Bar, say
from mpfgvc.run_folder import RunFolder
from mpfgvc.terms import Engine, ExportPrecision, Source

MOST_PHOTOS = 200
RANGES = 64
"""Training photographs that the ranges of 8 bits are measured on."""
ALLOWANCE = 0.03
"""How far below the wanted share of equal best guesses the true share may be, where nothing else is checked."""
_SURE = 1.645
"""Of a normal distribution, 95 % are below so many standard deviations."""
_Photo = TypeVar("_Photo")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The largest difference of a probability, and the least share of equal best guesses, that are fine."""

    difference: float
    agreement: float

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 <= value <= 1:
                raise ConfigError(f"--{name} must be between 0 and 1, got {value}")


LIMITS: dict[ExportPrecision, Limits] = {
    "fp32": Limits(difference=1e-3, agreement=1.0),
    "fp16": Limits(difference=0.02, agreement=0.99),
    "int8": Limits(difference=1.0, agreement=0.95),
}
"""In 8 bits a photograph between two classes may change sides, so no difference of one is a fault."""
FASTER = Limits(difference=1.0, agreement=0.97)
"""The limits where OpenVINO computes in bf16, for fp32 and fp16."""


@dataclass(frozen=True, kw_only=True)
class Parity:
    """A comparison with the model on `count` photographs, `labelled` of which have a known class.

    Differences are of probabilities of the source that the model answers with. All shares are in 0..1.
    """

    count: int
    largest_difference: float
    """Of any probability of any photograph."""
    agreement: float
    """Share of the photographs with the same best guess."""
    agreement_at_least: float
    """What that share is among all such photographs, with a confidence of 95 % (Wilson's bound)."""
    labelled: int
    accuracy_before: float | None
    accuracy_after: float | None
    """Top-1 of the model and of the export on the labelled ones; None if there are none."""
    limits: Limits

    def refuse_off(self, name: str) -> None:
        """Raise OutputError if a limit is broken, naming the option that sets it."""
        limits, broken, fine = self.limits, [], f"{self.limits.agreement:.0%} is fine (--agreement)"
        if not self.largest_difference <= limits.difference:  # a NaN is broken, too
            figures = f"{self.largest_difference:.3g}, at most {limits.difference:g} is fine"
            broken.append(f"a probability differs by {figures} (--difference)")
        same = f"{round(self.agreement * self.count)} of {self.count} photographs have the same best guess"
        if self.agreement < limits.agreement:
            broken.append(f"{same}, {fine}")
        if broken:
            reason = f"it does not answer as the model does: {'; '.join(broken)}"
            raise OutputError(f"{name} was not written, {reason}; choose another --precision, or looser limits")
        if limits.difference == 1 and self.agreement_at_least < limits.agreement - ALLOWANCE:
            doubt = f"of all it may be as few as {self.agreement_at_least:.0%}, and {fine}"
            rule = f"{name} was not written, so few photographs do not tell enough: {same}, {doubt}"
            raise OutputError(f"{rule}; name more photographs with --photos, or allow a lower share")


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
    out, small = Path(out), precision == "int8"
    if out.suffix != ".onnx":
        raise ConfigError(f"--out must end with .onnx, got {out}")
    check_known("precision", precision, get_args(ExportPrecision))
    check_known("engine", engine, get_args(Engine))
    check_at_least(1, "most", most)
    saved = load_model(model)
    train, validation = _splits_of(model, root) if small or photos is None else ((), ())
    ranges = train[:RANGES] if small else ()
    compared, labels = _named(photos, saved) if photos else _known(validation or train[len(ranges) :] or train)
    compared, labels = compared[:most], labels[:most]
    with new_file(out) as part:
        plain = replace(saved, calibration=None) if small else saved
        graph = write_export(plain, part, precision, ranges)
        exported = Predictor(ExportedBackend(part, engine=engine))
        after = _probabilities(exported, _logits(exported, compared, "the export"))
        predictor = Predictor.of(saved)
        before = _probabilities(predictor, _logits(predictor, compared, "the model"))
        parity = compare(before, after, labels, limits or usual_limits(precision, engine))
        parity.refuse_off(str(out))
        if small and saved.calibration is not None:
            calibration = _calibrated(exported, saved.calibration, validation)
            part.write_bytes(described(graph, _describe(replace(saved, calibration=calibration), precision)))
        size = part.stat().st_size
    return Exported(path=out, bytes=size, precision=precision, engine=engine, parity=parity)


def usual_limits(precision: ExportPrecision, engine: Engine) -> Limits:
    """What a comparison must keep unless the caller says otherwise."""
    return FASTER if engine == "openvino" and precision != "int8" else LIMITS[precision]


def write_export(saved: SavedModel, part: Path, precision: ExportPrecision, ranges: Sequence[Photograph] = ()) -> Any:
    """Write a model to a path, without any comparison; int8 needs photographs to measure ranges on.

    Returns the graph. Raises ConfigError for a network that cannot be exported, OutputError for one that is too large.
    """
    network = ExportedNetwork(saved.network, saved.preprocessing)
    example = torch.zeros(2, *saved.preprocessing.image_size, 3, dtype=torch.uint8)
    graph = onnx_bytes(network, example)
    if precision == "int8":
        at_least = saved.preprocessing.at_least
        photographs = (photograph.read(at_least=at_least) for photograph in ranges)
        graph = quantised(graph, (prepared_pixels(photograph, saved.preprocessing) for photograph in photographs))
    if precision == "fp16":
        graph = with_half_weights(graph)
    part.write_bytes(described(graph, _describe(saved, precision)))
    return graph


def compare(
    before: NDArray[np.float64], after: NDArray[np.float64], labels: Sequence[int | None], limits: Limits
) -> Parity:
    """The report from the probabilities of both, (photographs, classes)."""
    first, second, count = before.argmax(axis=1), after.argmax(axis=1), len(before)
    known = [index for index, label in enumerate(labels) if label is not None]
    truth = np.array([labels[index] for index in known])
    share, extra = float((first == second).mean()), _SURE**2 / count
    spread = _SURE * np.sqrt(share * (1 - share) / count + (extra / 2) ** 2 / _SURE**2)
    return Parity(
        count=count,
        largest_difference=float(np.abs(before - after).max()),
        agreement=share,
        agreement_at_least=float((share + extra / 2 - spread) / (1 + extra)),
        labelled=len(known),
        accuracy_before=float((first[known] == truth).mean()) if known else None,
        accuracy_after=float((second[known] == truth).mean()) if known else None,
        limits=limits,
    )


def _logits(predictor: Predictor, photographs: Sequence[Photograph], name: str) -> dict[Source, NDArray[np.float32]]:
    """The logits (photographs, classes) of each source, one photograph after the other."""
    bar, rows = Bar(name, total=len(photographs)), []
    try:
        for photograph in photographs:
            pixels = predictor.prepare(photograph.read(at_least=predictor.preprocessing.at_least))
            rows.append(predictor.backend.run(pixels[None], [str(photograph.path)]))
            bar.advance(1)
    finally:
        bar.close()
    return {source: np.concatenate([getattr(row, source) for row in rows]) for source in get_args(Source)}


def _probabilities(predictor: Predictor, logits: Mapping[Source, NDArray[np.float32]]) -> NDArray[np.float64]:
    """Of the source that the model answers with, without a temperature, which would only hide a difference."""
    return softmax(logits[predictor.source])


def _calibrated(exported: Predictor, before: Calibration, validation: Sequence[Sample]) -> Calibration | None:
    """The calibration of an exported file, if that of its model was found on the validation split."""
    if VALIDATION not in before.photographs:
        say(
            f"the file is not calibrated: the model was, by {before.photographs}, and in 8 bits it answers otherwise; "
            "calibrate the run on its validation split first"
        )
        return None
    used = validation[:MOST_PHOTOGRAPHS]
    labels = np.array([sample.label for sample in used])
    photographs = f"{len(used)} photographs of {VALIDATION}"
    logits = _logits(exported, used, "calibration")
    return calibration_of(logits, labels, taxonomy=exported.backend.facts.taxonomy, photographs=photographs)


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


def _named(photos: str | Path, saved: SavedModel) -> tuple[Sequence[Photograph], Sequence[int | None]]:
    """The photographs of a folder; one is of a class if the folder that it lies in has its name."""
    found = _mixed(find_images([str(photos)], say))
    labels = {look(name): label for label, name in enumerate(saved.network.classes)}
    return [Photograph(path=path) for path in found], [labels.get(look(path.parent.name)) for path in found]


def _known(samples: Sequence[Sample]) -> tuple[Sequence[Photograph], Sequence[int | None]]:
    return samples, [sample.label for sample in samples]


def _splits_of(model: str | Path, root: str | Path | None) -> tuple[Sequence[Sample], Sequence[Sample]]:
    """Training and validation photographs of a run, the classes mixed."""
    folder = None if str(model).startswith("hf://") else RunFolder(model)
    if folder is None or not folder.is_run:
        rule = f"{model} is not a run folder, so it has no photographs to compare or calibrate on"
        hint = "give the run folder, or name some with --photos (int8 is calibrated on those of the run)"
        raise ConfigError(f"{rule}; {hint}")
    restored = photos_of_run(folder, root=root)
    return _mixed(restored.found("train")), _mixed(restored.found("validation"))


def _mixed(photos: Sequence[_Photo]) -> Sequence[_Photo]:
    """In an order without order, always the same."""
    return [photos[index] for index in np.random.default_rng(0).permutation(len(photos))]
