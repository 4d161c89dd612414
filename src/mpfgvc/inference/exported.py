"""An exported model on a CPU: by onnxruntime, or by OpenVINO in bf16 where the CPU has it; no torch.

The metadata of the file have a description (description.py) under the key `mpfgvc`. The graph alone gives logits;
the description says what they mean and what the photographs must look like. The graph normalises the pixels itself.

All threads work on one photograph together. Of several each thread takes its own, a few at a time: nobody
waits for others at every product, which is faster by a third on two cores. An answer has the same bits alone
and among others: ranges are constants of the graph, and no product adds over the batch. Tests check it, on
small models.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NoReturn, get_args

import numpy as np
from PIL.Image import Image

from mpfgvc.data.preprocessing import prepared_pixels
from mpfgvc.errors import CheckpointError, ConfigError, check_at_least, check_known, one_line
from mpfgvc.inference.backends import Outputs, Pixels, check_finite
from mpfgvc.inference.description import ExportedDescription
from mpfgvc.processes import core_count
from mpfgvc.terms import Engine, Source

KEY = "mpfgvc"
"""Where the metadata of the file have the description."""
AT_ONCE = 4
"""Photographs that go through one thread together."""
INPUT, OUTPUTS = "images", Outputs._fields
"""The names in the graph: uint8 pixels (batch, height, width, 3), RGB, and what is said about them."""


SEAL = b"\x72\x4a\x0a\x06sha256\x12\x40"
"""Before the SHA-256 of all before it, as hexadecimal digits, that ends a file; together a last entry of its metadata,
by the rules of protobuf."""


class ExportedBackend:
    """The backend of a `.onnx` file of `mpfgvc export` (backends.py), on the CPU.

    `threads` None: OMP_NUM_THREADS, else one per core. Raises CheckpointError for a file that is missing,
    cut, or not one of `mpfgvc export`, ConfigError for an unknown or missing engine.
    """

    on_cpu = True

    def __init__(self, model: str | Path, *, engine: Engine = "onnxruntime", threads: int | None = None) -> None:
        check_known("engine", engine, get_args(Engine))
        if threads is not None:
            check_at_least(1, "threads", threads)
        self.path = Path(model)
        _check_seal(self.path)
        self._session = open_session(self.path, engine=engine, threads=threads)
        if KEY not in self._session.metadata:
            rule = "is an ONNX file, but not one of mpfgvc export: its metadata say nothing of classes"
            raise CheckpointError(f"{self.path} {rule}; make one with mpfgvc export")
        self.description = about = ExportedDescription.read(self._session.metadata[KEY], self.path)
        sizes = self._session.sizes
        if {sizes.get(source) for source in get_args(Source)} != {len(about.classes)} or "embedding" not in sizes:
            rule = f"names {len(about.classes)} classes, but its graph has {sizes.get(about.prediction)}"
            raise CheckpointError(f"{self.path} {rule}; export it again")
        self.preprocessing, self.width = about.preprocessing, sizes["embedding"]
        self.how = f"{about.precision} by {engine}"
        self.facts = about.facts(str(self.path), digest=about.model, prediction=about.prediction)

    def prepare(self, photograph: Image) -> Pixels:
        """The pixels that the graph sees, uint8 (height, width, 3)."""
        return prepared_pixels(photograph, self.preprocessing)

    def run(self, pixels: Pixels, names: Sequence[str]) -> Outputs:
        """The outputs for prepared photographs. Raises CheckpointError where a logit is not finite."""
        try:
            outputs = self._session.run(pixels)
        except CheckpointError:
            raise
        except Exception as error:  # engines fail in a graph, such as one without end, with almost any exception
            raise CheckpointError(f"cannot run {self.path}: {one_line(error)}; export it again") from None
        logits = (outputs.vision, outputs.text, outputs.fusion)
        finite = np.all([np.isfinite(values).all(axis=1) for values in logits], axis=0)
        check_finite(finite, names, model=str(self.path), hint="export it again")
        return outputs

    def trained(self) -> NoReturn:
        """Raises ConfigError: the graph gives the kept patches, but neither weights nor attention."""
        raise ConfigError(f"{self.path} is an exported model, which cannot do that; give the run itself")


def open_session(path: Path, *, engine: Engine, threads: int | None = None) -> _Session:
    """Load a model. `threads` None: OMP_NUM_THREADS if it is set, else one per core.

    Raises ConfigError for an engine that is not installed, CheckpointError for a file that it refuses.
    """
    count = _threads() if threads is None else threads
    try:
        path.open("rb").close()
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}; check the path") from None
    try:
        return (_OpenVino if engine == "openvino" else _OnnxRuntime)(path, count)
    except ImportError:
        package, extra = ("openvino", "fast") if engine == "openvino" else ("onnxruntime", "export")
        hint = f"pip install {package}, or the extra {extra}"
        raise ConfigError(f"an exported model needs {package}, which is not installed; {hint}") from None
    except Exception as error:  # engines refuse a graph with almost any exception
        raise CheckpointError(f"{engine} cannot load {path}: {one_line(error)}; export it again") from None


def _check_seal(path: Path) -> None:
    """Raise CheckpointError for a file that does not have the digest at its end; one without is not checked."""
    with suppress(OSError), path.open("rb") as file:  # what cannot be read is refused when it is opened
        size = file.seek(0, os.SEEK_END) - len(SEAL) - 64
        file.seek(max(0, size))
        if file.read(len(SEAL)) != SEAL:
            return
        wanted, found = file.read(64), hashlib.sha256()
        file.seek(0)
        while size > 0:
            block = file.read(min(size, 1 << 20))
            found.update(block)
            size -= len(block) or size
        if found.hexdigest().encode() != wanted:
            rule = "is damaged: its content does not match the digest at its end"
            raise CheckpointError(f"{path} {rule}; copy it or export it again")


def _stamp(path: Path) -> tuple[int, int, int]:
    """What differs if another file is there. Raises CheckpointError for none."""
    try:
        status = path.stat()
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}; check the path") from None
    return status.st_ino, status.st_size, status.st_mtime_ns


class _Session:
    """A model that an engine has loaded; its file may be read again later, but only if it is still the same."""

    metadata: Mapping[str, str]
    sizes: Mapping[str, int]
    """The numbers that each output has for a photograph."""

    def __init__(self, path: Path, threads: int) -> None:
        self._path, self._stamp, self._threads = path, _stamp(path), threads

    def run(self, pixels: np.ndarray) -> Outputs:
        """The outputs for uint8 pixels, (batch, height, width, 3)."""
        raise NotImplementedError

    def _file(self) -> str:
        if _stamp(self._path) != self._stamp:
            raise CheckpointError(f"{self._path} has changed since it was opened; open it again")
        return str(self._path)


class _OnnxRuntime(_Session):
    def __init__(self, path: Path, threads: int) -> None:
        super().__init__(path, threads)
        self._together = self._session(threads)
        self.metadata = self._together.get_modelmeta().custom_metadata_map
        self.sizes = {output.name: output.shape[1] for output in self._together.get_outputs()}
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
        return onnxruntime.InferenceSession(self._file(), options, providers=["CPUExecutionProvider"])

    @staticmethod
    def _of(session: Any, pixels: np.ndarray) -> Outputs:
        return Outputs(*session.run(list(OUTPUTS), {INPUT: pixels}))


class _OpenVino(_Session):
    def __init__(self, path: Path, threads: int) -> None:
        super().__init__(path, threads)
        core = _openvino_core()
        precision = "bf16" if "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "f32"
        self._core = core
        self._settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": precision}
        self._queues: dict[int, Any] = {}
        self._turn = threading.Lock()  # a compiled model holds one input at a time
        model = core.read_model(self._file())
        about = model.get_rt_info()
        framework = about["framework"].items() if "framework" in about else ()
        self.metadata = {key: entry.value for key, entry in framework}
        self.sizes = {output.any_name: output.partial_shape[1].get_length() for output in model.outputs}
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
        model = self._core.read_model(self._file())
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
