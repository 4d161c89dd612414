"""A model over any number of photographs, in order, while the answers are consumed.

Memory does not grow with their number: a batch is taken from the iterable at a time. Threads decode; Pillow
lets them run beside each other. Beside an accelerator they are a few batches ahead of it. On a CPU they read
a batch and then leave the cores to the model, which would wait at every step for a thread pushed aside.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING

from mpfgvc.data.samples import Photograph
from mpfgvc.errors import DataError
from mpfgvc.inference.backends import Pixels
from mpfgvc.processes import core_count

if TYPE_CHECKING:
    from mpfgvc.inference.predictor import PhotoOutput, Predictor

BATCHES_AHEAD = 4
"""Batches that are read while an accelerator computes."""
_Reading = list[tuple[Photograph, "Future[Pixels]"]]


def stream(
    predictor: Predictor, photographs: Iterator[Photograph], *, batch_size: int, workers: int | None
) -> Iterator[tuple[Photograph, PhotoOutput | DataError]]:
    """What the model says about each photograph, or why it cannot be read.

    `workers` threads decode; None: one for each core. Raises CheckpointError for a damaged model.
    """
    pool = ThreadPoolExecutor(max(1, core_count() if workers is None else workers))
    try:
        for batch in _read_ahead(predictor, photographs, pool, batch_size):
            read = [(photograph, _result(pixels)) for photograph, pixels in batch]
            ready = [(photograph, each) for photograph, each in read if not isinstance(each, DataError)]
            names = [str(photograph.path) for photograph, _ in ready]
            outputs = iter(predictor.run([pixels for _, pixels in ready], names))
            for photograph, each in read:
                yield photograph, each if isinstance(each, DataError) else next(outputs)
    finally:
        pool.shutdown(cancel_futures=True)


def _read_ahead(
    predictor: Predictor, photographs: Iterable[Photograph], pool: ThreadPoolExecutor, batch_size: int
) -> Iterator[_Reading]:
    """Batches of photographs that are being read."""

    def read(photograph: Photograph) -> Pixels:
        return predictor.prepare(photograph.read(at_least=predictor.preprocessing.at_least))

    ahead = 0 if predictor.backend.on_cpu else BATCHES_AHEAD
    started: deque[_Reading] = deque()
    while batch := list(islice(photographs, batch_size)):
        started.append([(photograph, pool.submit(read, photograph)) for photograph in batch])
        if len(started) > ahead:
            yield started.popleft()
    yield from started


def _result(pixels: Future[Pixels]) -> Pixels | DataError:
    try:
        return pixels.result()
    except DataError as error:
        return error
