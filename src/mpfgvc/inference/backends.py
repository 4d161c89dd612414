"""What computes: the seam between a Predictor and a trained network or an exported graph. No torch.

forward.py has the backend of a trained network (torch, any device), exported.py that of a `.onnx` file
(onnxruntime or OpenVINO, on the CPU).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from mpfgvc.data.preprocessing import Preprocessing
from mpfgvc.errors import CheckpointError, ConfigError
from mpfgvc.inference.answering import ModelFacts
from mpfgvc.terms import Engine, Precision

if TYPE_CHECKING:
    from mpfgvc.inference.forward import TorchBackend

Pixels = NDArray[np.float32] | NDArray[np.uint8]
"""A prepared photograph, or several, as a backend wants them: all of one shape and type."""


class Outputs(NamedTuple):
    """What a model says about some photographs; the names are those of an exported graph's outputs."""

    vision: NDArray[np.float32]
    """Logits of the classifier on V, (batch, classes)."""
    text: NDArray[np.float32]
    fusion: NDArray[np.float32]
    embedding: NDArray[np.float32]
    """V, (batch, width)."""
    kept: NDArray[np.int64]
    """Indices of the kept patches, most attended first, (batch, kept)."""


class Backend(Protocol):
    """A loaded model. `prepare` may be called from several threads at a time."""

    facts: ModelFacts
    preprocessing: Preprocessing
    width: int
    """Of an embedding."""
    how: str
    """What it computes in, for people: `fp32`, or `int8 by openvino`."""
    on_cpu: bool

    def prepare(self, photograph: Image) -> Pixels:
        """The numbers that the model sees of an upright RGB photograph."""

    def run(self, pixels: Pixels, names: Sequence[str]) -> Outputs:
        """The outputs for at least one prepared photograph; `names` are what errors call them.

        Raises CheckpointError that names the model and the photograph where a logit is not finite.
        """

    def trained(self) -> TorchBackend:
        """This backend, if it has the network itself. Raises ConfigError for an exported model."""


def open_backend(
    model: str | Path,
    *,
    engine: Engine | None = None,
    threads: int | None = None,
    device: str = "auto",
    precision: Precision = "fp32",
) -> Backend:
    """Load a run, a model folder, a repository of the hub, or a `.onnx` file.

    Raises CheckpointError for a model that is missing or damaged, ConfigError for an option that is wrong or
    is not for this kind of model.
    """
    check_options(model, engine=engine, threads=threads, device=device, precision=precision)
    if str(model).endswith(".onnx"):
        from mpfgvc.inference.exported import ExportedBackend

        return ExportedBackend(model, engine=engine or "onnxruntime", threads=threads)
    try:
        from mpfgvc.inference.forward import load_backend
    except ModuleNotFoundError as error:
        hint = "install mpfgvc for it, or give a .onnx file of mpfgvc export"
        raise ConfigError(f"{model} needs {error.name}, which mpfgvc-runtime does without; {hint}") from None
    return load_backend(model, device=device, precision=precision)


def check_options(
    model: str | Path,
    *,
    engine: Engine | None = None,
    threads: int | None = None,
    device: str = "auto",
    precision: Precision = "fp32",
) -> None:
    """Raise ConfigError for an option that is not for this kind of model."""
    if not str(model).endswith(".onnx"):
        if engine is not None or threads is not None:
            raise ConfigError(f"--engine and --threads are for a .onnx file, got {model}; leave them out")
    elif device not in ("auto", "cpu") or precision != "fp32":
        rule = "an exported model runs on the CPU in the precision of its file"
        raise ConfigError(f"{rule}; leave out --device and --precision")


def check_finite(finite: NDArray[np.bool_], names: Sequence[str], *, model: str, hint: str) -> None:
    """Raise CheckpointError that names the first photograph whose output is not finite, (batch,)."""
    if not finite.all():
        reason = f"{model}: its output for {names[int(np.argmin(finite))]} is not finite"
        raise CheckpointError(f"{reason}; its weights are damaged, {hint}")
