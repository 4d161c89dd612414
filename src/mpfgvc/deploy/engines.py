"""What runs an exported model on a CPU: onnxruntime, or OpenVINO in bf16 where the CPU has it; no torch.

Photographs go through one at a time. So an answer depends on its photograph alone, bit for bit, whatever
else is in the batch; and on one or two cores nothing is lost by it (benchmarks/export.py).
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
        rows = [self._session.run(list(OUTPUTS), {INPUT: each[None]}) for each in pixels]
        return _joined([dict(zip(OUTPUTS, row, strict=True)) for row in rows])


class _OpenVino:
    def __init__(self, path: Path, threads: int):
        import openvino

        hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
        core = openvino.Core()
        # A batch of one is fixed, so that the graph is compiled once, for this shape.
        model = core.read_model(path)
        model.reshape({INPUT: [1, *list(model.input(INPUT).partial_shape)[1:]]})
        precision = "bf16" if "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "f32"
        self._model: Any = core.compile_model(model, "CPU", {**hints, "INFERENCE_PRECISION_HINT": precision})
        self._one_at_a_time = threading.Lock()  # a compiled model has one place for its inputs

    def run(self, pixels: np.ndarray) -> Outputs:
        with self._one_at_a_time:
            rows = [self._model({INPUT: each[None]}) for each in pixels]
        return _joined([{name: row[name] for name in OUTPUTS} for row in rows])


def _joined(rows: list[dict[str, np.ndarray]]) -> Outputs:
    return {name: np.concatenate([row[name] for row in rows]) for name in OUTPUTS}


def _threads() -> int:
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return int(wanted) if wanted.isdecimal() and int(wanted) > 0 else core_count()
