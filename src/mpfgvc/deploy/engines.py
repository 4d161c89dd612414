"""What runs an exported model on a CPU: onnxruntime, or OpenVINO in bf16 where the CPU has it; no torch.

Photographs go through a few at a time, which is fastest on one or two cores. An answer has the same bits
alone and among others: ranges are constants of the graph, and no product adds over the batch. Tests check it.
"""

import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..errors import CheckpointError, ConfigError, one_line
from ..launcher import core_count
from ..terms import Engine
from .description import INPUT, OUTPUTS

AT_ONCE = 4
"""Photographs that go through together."""
Outputs = Mapping[str, np.ndarray]
"""By the names of `OUTPUTS`."""


class Session(Protocol):
    """A model that an engine has loaded."""

    def run(self, pixels: np.ndarray) -> Outputs:
        """The outputs for uint8 pixels, (batch, height, width, 3)."""
        ...


def open_session(path: Path, *, engine: Engine, threads: int | None = None) -> Session:
    """Load a model. `threads` None: OMP_NUM_THREADS if it is set, else one per core.

    Raises ConfigError for an engine that is not installed, CheckpointError for a file that it refuses.
    """
    count = _threads() if threads is None else threads
    kinds: dict[str, type[_OnnxRuntime] | type[_OpenVino]] = {
        "onnxruntime": _OnnxRuntime,
        "openvino": _OpenVino,
    }
    try:
        return kinds[engine](path, count)
    except ImportError:
        package, extra = ("openvino", "fast") if engine == "openvino" else ("onnxruntime", "export")
        hint = f"pip install {package}, or the extra {extra}"
        raise ConfigError(f"an exported model needs {package}, which is not installed; {hint}") from None
    except Exception as error:  # engines refuse a graph with almost any exception
        raise CheckpointError(f"{engine} cannot load {path}: {one_line(error)}; export it again") from None


class _OnnxRuntime:
    def __init__(self, path: Path, threads: int):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        providers = ["CPUExecutionProvider"]
        self._session: Any = onnxruntime.InferenceSession(str(path), options, providers=providers)

    def run(self, pixels: np.ndarray) -> Outputs:
        rows = [
            self._session.run(list(OUTPUTS), {INPUT: pixels[place : place + AT_ONCE]})
            for place in range(0, len(pixels), AT_ONCE)
        ]
        return _joined([dict(zip(OUTPUTS, row, strict=True)) for row in rows])


class _OpenVino:
    def __init__(self, path: Path, threads: int):
        import openvino

        hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
        core = openvino.Core()
        precision = "bf16" if "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "f32"
        self._core, self._path = core, path
        self._settings = {**hints, "INFERENCE_PRECISION_HINT": precision}
        self._compiled: dict[int, Any] = {1: self._compile(1)}
        self._turn = threading.Lock()  # a compiled model has one place for its inputs

    def run(self, pixels: np.ndarray) -> Outputs:
        whole = len(pixels) - len(pixels) % AT_ONCE
        parts = [pixels[place : place + AT_ONCE] for place in range(0, whole, AT_ONCE)]
        parts += [pixels[place : place + 1] for place in range(whole, len(pixels))]
        with self._turn:
            rows = [self._of(len(part))({INPUT: part}) for part in parts]
        return _joined([{name: row[name] for name in OUTPUTS} for row in rows])

    def _of(self, count: int) -> Any:
        if count not in self._compiled:
            self._compiled[count] = self._compile(count)
        return self._compiled[count]

    def _compile(self, count: int) -> Any:
        """The model for exactly so many images; for any number it would be slower."""
        model = self._core.read_model(self._path)
        model.reshape({INPUT: [count, *list(model.input(INPUT).partial_shape)[1:]]})
        return self._core.compile_model(model, "CPU", self._settings)


def _joined(rows: list[dict[str, np.ndarray]]) -> Outputs:
    return {name: np.concatenate([row[name] for row in rows]) for name in OUTPUTS}


def _threads() -> int:
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return int(wanted) if wanted.isdecimal() and int(wanted) > 0 else core_count()
