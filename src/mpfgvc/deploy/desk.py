"""From the bytes of a photograph to its answer: headers first, then pixels, then the model.

Photographs are decoded by a few threads. The model runs in one thread of its own, which batches (batcher.py)
and single explanations share. A photograph that cannot be read is an answer, too: why not.
"""

import asyncio
import io
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from fastapi import Request
from PIL import Image

from mpfgvc.data.images import image_size, read_image
from mpfgvc.deploy.admission import Admission
from mpfgvc.deploy.batcher import Batcher
from mpfgvc.deploy.measures import Measures
from mpfgvc.deploy.refusals import CLIENT_GONE, RefusedError
from mpfgvc.deploy.settings import Limits
from mpfgvc.deploy.uploads import Upload
from mpfgvc.errors import DataError, MpfgvcError
from mpfgvc.inference.backends import Pixels
from mpfgvc.inference.predictor import PhotoOutput, Predictor

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Unreadable:
    """Why a photograph has no answer; `status` is that of a request about it alone."""

    reason: str
    status: int = 422


@dataclass(frozen=True, kw_only=True)
class Outcome(Generic[Result]):
    """What became of one upload."""

    name: str
    result: Result | Unreadable


class Desk:
    """One model, its queue and its threads. `start` and `close` it in the event loop of the server."""

    def __init__(self, model: Predictor, *, limits: Limits, measures: Measures) -> None:
        self.model, self.limits, self._measures = model, limits, measures
        self._decoders = ThreadPoolExecutor(limits.decoders, thread_name_prefix="decoder")
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._batcher = Batcher[Pixels, PhotoOutput](
            model.run,
            worker=self._worker,
            largest=limits.batch_size,
            longest_wait=limits.wait / 1000,
            on_batch=measures.batch,
        )
        self.admission = Admission(
            photographs=limits.queue,
            size=limits.all_bytes,
            seconds_left=lambda inside: inside * self._batcher.seconds_per_item,
        )

    def start(self) -> None:
        """Begin to answer."""
        self._batcher.start()

    async def close(self) -> None:
        """Refuse what is new, answer what is inside, end the threads."""
        self.admission.closed = True
        await self._batcher.close()
        self._decoders.shutdown(cancel_futures=True)
        self._worker.shutdown()

    async def answers(self, request: Request, uploads: Sequence[Upload]) -> list[Outcome[PhotoOutput]]:
        """An answer about each upload, in order.

        Raises RefusedError: 504 after the time limit, and what `_alone` says if no photograph could be read.
        """
        outcomes = await self._together(request, [self._answer(upload) for upload in uploads])
        return self._counted(uploads, outcomes)

    async def use(self, request: Request, upload: Upload, work: Callable[[Image.Image], Result]) -> Result:
        """What `work` makes of a photograph in the model's thread. Raises RefusedError as `answers` does."""
        (outcome,) = self._counted([upload], await self._together(request, [self._work(upload, work)]))
        if isinstance(outcome.result, Unreadable):
            raise RefusedError(outcome.result.status, outcome.result.reason)
        return outcome.result

    async def _answer(self, upload: Upload) -> PhotoOutput:
        return await self._batcher.submit(await self._decode(self._prepared, upload))

    async def _work(self, upload: Upload, work: Callable[[Image.Image], Result]) -> Result:
        photograph = await self._decode(self._read, upload)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._worker, work, photograph)

    async def _decode(self, read: Callable[[bytes], Result], upload: Upload) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._decoders, read, upload.content)

    def _prepared(self, content: bytes) -> Pixels:
        return self.model.prepare(self._read(content))

    def _read(self, content: bytes) -> Image.Image:
        """The photograph, after its header was looked at. Raises DataError or RefusedError."""
        height, width = image_size(io.BytesIO(content))
        if height * width > self.limits.pixels:
            size = f"{width} x {height} pixels are more than {self.limits.max_megapixels:g} megapixels"
            raise RefusedError(413, f"{size}; scale the photograph down")
        return read_image(io.BytesIO(content), at_least=self.model.preprocessing.at_least)

    async def _together(
        self, request: Request, works: Sequence[Coroutine[Any, Any, Result]]
    ) -> list[Result | BaseException]:
        """All results, unless the time is over or the client went away: then the rest is given up."""
        results = asyncio.gather(*works, return_exceptions=True)
        gone = asyncio.ensure_future(_client_gone(request))
        try:
            either: set[asyncio.Future[Any]] = {results, gone}
            done, _ = await asyncio.wait(
                either, timeout=self.limits.timeout, return_when=asyncio.FIRST_COMPLETED
            )
            if results in done:
                return results.result()
            if gone in done:
                raise RefusedError(CLIENT_GONE, "the client went away")
            line = f"there was no answer within {self.limits.timeout:g} seconds"
            raise RefusedError(504, f"{line}; send fewer or smaller photographs")
        finally:
            gone.cancel()
            results.cancel()

    def _counted(
        self, uploads: Sequence[Upload], results: Sequence[Result | BaseException]
    ) -> list[Outcome[Result]]:
        outcomes = [
            Outcome(name=upload.name, result=_outcome(result))
            for upload, result in zip(uploads, results, strict=True)
        ]
        unreadable = [each.result for each in outcomes if isinstance(each.result, Unreadable)]
        self._measures.photographs(answered=len(outcomes) - len(unreadable), unreadable=len(unreadable))
        if len(unreadable) == len(outcomes):
            raise RefusedError(unreadable[0].status, unreadable[0].reason)
        return outcomes


def _outcome(result: Result | BaseException) -> Result | Unreadable:
    """The result, or why there is none. Raises what is no fault of the photograph."""
    if isinstance(result, DataError):
        return Unreadable(reason=str(result))
    if isinstance(result, RefusedError) and result.status == 413:
        return Unreadable(reason=result.line, status=413)
    if isinstance(result, MpfgvcError):
        raise RefusedError(500, str(result))
    if isinstance(result, BaseException):
        raise result
    return result


async def _client_gone(request: Request) -> None:
    """Returns when the client has closed its connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def warm_up(model: Predictor) -> None:
    """Compute once, so that the first request is as fast as the others, and a damaged model is found now."""
    model.run([model.prepare(Image.new("RGB", (64, 64), "gray"))])
