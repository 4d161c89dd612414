"""What runs an exported model on a CPU: onnxruntime, or OpenVINO in bf16 where the CPU has it; no torch.

All threads work on one photograph together. Of several each thread takes its own, a few at a time: nobody
waits for others at every product, which is faster by a third on two cores. An answer has the same bits alone
and among others: ranges are constants of the graph, and no product adds over the batch. Tests check it, on
small models.
"""

import os
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mpfgvc.errors import CheckpointError, ConfigError, one_line
from mpfgvc.inference.backends import Outputs
from mpfgvc.processes import core_count
from mpfgvc.terms import Engine

AT_ONCE = 4
"""Photographs that go through one thread together."""
INPUT, OUTPUTS = "images", Outputs._fields
"""The names in the graph: uint8 pixels (batch, height, width, 3), RGB, and what is said about them."""


class Session(Protocol):
    """A model that an engine has loaded, with the metadata of its file."""

    metadata: Mapping[str, str]
    width: int
    """Of an embedding."""

    def run(self, pixels: np.ndarray) -> Outputs:
        """The outputs for uint8 pixels, (batch, height, width, 3)."""
        ...


def open_session(path: Path, *, engine: Engine, threads: int | None = None) -> Session:
    """Load a model. `threads` None: OMP_NUM_THREADS if it is set, else one per core.

    Raises ConfigError for an engine that is not installed, CheckpointError for a file that it refuses.
    """
    count = _threads() if threads is None else threads
    kinds: dict[str, type[_OnnxRuntime] | type[_OpenVino]] = {"onnxruntime": _OnnxRuntime, "openvino": _OpenVino}
    try:
        path.open("rb").close()
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}; check the path") from None
    try:
        return kinds[engine](path, count)
    except ImportError:
        package, extra = ("openvino", "fast") if engine == "openvino" else ("onnxruntime", "export")
        hint = f"pip install {package}, or the extra {extra}"
        raise ConfigError(f"an exported model needs {package}, which is not installed; {hint}") from None
    except Exception as error:  # engines refuse a graph with almost any exception
        raise CheckpointError(f"{engine} cannot load {path}: {one_line(error)}; export it again") from None


class _ModelFile:
    """The file of a model, which may be read again later, but only if it is still the same."""

    def __init__(self, path: Path) -> None:
        self._path, self._seen = path, self._look(path)

    def path(self) -> Path:
        """Where it is. Raises CheckpointError if another file is there by now, or none."""
        if self._look(self._path) != self._seen:
            raise CheckpointError(f"{self._path} has changed since it was opened; open it again")
        return self._path

    @staticmethod
    def _look(path: Path) -> tuple[int, int, int] | None:
        try:
            status = path.stat()
        except OSError:
            return None
        return status.st_ino, status.st_size, status.st_mtime_ns


class _OnnxRuntime:
    metadata: Mapping[str, str]
    width: int

    def __init__(self, path: Path, threads: int):
        self._file, self._threads = _ModelFile(path), threads
        self._together = self._session(threads)
        self.metadata = self._together.get_modelmeta().custom_metadata_map
        self.width = self._together.get_outputs()[OUTPUTS.index("embedding")].shape[1]
        self._apart: Any = self._together if threads == 1 else None
        self._opening = threading.Lock()
        self._crew = ThreadPoolExecutor(threads)

    def run(self, pixels: np.ndarray) -> Outputs:
        if len(pixels) == 1:
            return self._of(self._together, pixels)
        size = min(AT_ONCE, -(-len(pixels) // self._threads))
        parts = [pixels[first : first + size] for first in range(0, len(pixels), size)]
        session = self._of_one_thread()
        mapped = map if self._threads == 1 else self._crew.map
        return _joined(list(mapped(lambda part: self._of(session, part), parts)))

    def _of_one_thread(self) -> Any:
        """A session that several threads may use at once; it holds the weights a second time."""
        with self._opening:
            if self._apart is None:
                self._apart = self._session(1)
            return self._apart

    def _session(self, threads: int) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        return onnxruntime.InferenceSession(str(self._file.path()), options, providers=["CPUExecutionProvider"])

    @staticmethod
    def _of(session: Any, pixels: np.ndarray) -> Outputs:
        return Outputs(*session.run(list(OUTPUTS), {INPUT: pixels}))


class _OpenVino:
    metadata: Mapping[str, str]
    width: int

    def __init__(self, path: Path, threads: int):
        core = _openvino_core()
        precision = "bf16" if "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "f32"
        self._core, self._file, self._threads = core, _ModelFile(path), threads
        self._settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": precision}
        self._queues: dict[int, Any] = {}
        self._turn = threading.Lock()  # a compiled model holds one input at a time
        model = core.read_model(path)
        about = model.get_rt_info()
        framework = about["framework"].items() if "framework" in about else ()
        self.metadata = {key: each.value for key, each in framework}
        self.width = model.output("embedding").partial_shape[1].get_length()
        self._together: Any = self._compile(1, {"PERFORMANCE_HINT": "LATENCY"})
        if threads > 1 and not self._has_the_same_bits():
            self._together = None

    def run(self, pixels: np.ndarray) -> Outputs:
        with self._turn:
            if len(pixels) == 1 and self._together is not None:
                return self._by_all_threads(pixels)
            return _joined(self._by_streams(pixels))

    def _has_the_same_bits(self) -> bool:
        """Whether a photograph gets the same answer from all threads together as from one.

        In bf16 OpenVINO may add in another order where an image has few patches.
        """
        _, *shape = self._together.input(0).shape
        noise = np.random.default_rng(0).integers(0, 256, (1, *shape), dtype=np.uint8)
        together, (apart,) = self._by_all_threads(noise), self._by_streams(noise)
        return np.array_equal(np.concatenate(together, axis=1), np.concatenate(apart, axis=1))

    def _by_all_threads(self, pixels: np.ndarray) -> Outputs:
        row = self._together({INPUT: pixels})
        return Outputs(*(row[name].copy() for name in OUTPUTS))

    def _by_streams(self, pixels: np.ndarray) -> list[Outputs]:
        """AT_ONCE for each thread as long as there are so many, then one for each."""
        round_ = AT_ONCE * self._threads
        whole = len(pixels) - len(pixels) % round_
        parts = [pixels[first : first + AT_ONCE] for first in range(0, whole, AT_ONCE)]
        parts += [pixels[first : first + 1] for first in range(whole, len(pixels))]
        rows: dict[int, Outputs] = {}

        def keep(request: Any, index: int) -> None:
            rows[index] = Outputs(*(request.get_tensor(name).data.copy() for name in OUTPUTS))

        queues = {size: self._queue(size) for size in {len(part) for part in parts}}
        try:
            for queue in queues.values():
                queue.set_callback(keep)
            for index, part in enumerate(parts):
                queues[len(part)].start_async({INPUT: part}, index)
            for queue in queues.values():
                queue.wait_all()
        except Exception:  # a queue would keep what failed in it, so the next photographs get new ones
            self._queues.clear()
            for queue in queues.values():
                with suppress(Exception):
                    queue.wait_all()
            raise
        return [rows[index] for index in range(len(parts))]

    def _queue(self, size: int) -> Any:
        """A stream for each thread that takes so many photographs; they share the weights."""
        import openvino

        if size not in self._queues:
            streams: dict[str, str | int] = {"PERFORMANCE_HINT": "THROUGHPUT", "NUM_STREAMS": self._threads}
            self._queues[size] = openvino.AsyncInferQueue(self._compile(size, streams), self._threads)
        return self._queues[size]

    def _compile(self, count: int, hints: Mapping[str, str | int]) -> Any:
        """The model for exactly so many images; for any number it would be slower."""
        model = self._core.read_model(self._file.path())
        model.reshape({INPUT: [count, *list(model.input(INPUT).partial_shape)[1:]]})
        return self._core.compile_model(model, "CPU", {**self._settings, **hints})


@cache
def _openvino_core() -> Any:
    """The core of OpenVINO, one for the whole life of the process.

    On a CPU with AMX each core gives the thread that makes it a stack for signals of its own. When several
    end in another order than they began, that stack points to memory that was freed, and the next signal
    (a child process that ends is enough) overwrites other data or ends the process without a word.
    """
    import openvino

    return openvino.Core()


def _joined(rows: list[Outputs]) -> Outputs:
    return Outputs(*map(np.concatenate, zip(*rows, strict=True)))


def _threads() -> int:
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return int(wanted) if wanted.isdecimal() and int(wanted) > 0 else core_count()
