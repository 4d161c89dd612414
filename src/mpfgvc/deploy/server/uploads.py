"""From the bytes of a request to answers: a form within limits, headers first, then pixels, then the model.

Uploads stay in memory. Starlette's parser keeps a file there up to `spool_max_size`, and writes it to a
temporary file beyond; here that size is out of reach, as a body is refused before it grows so large. Anything
that is not a file is refused, too; above all an address, which the server would have to fetch.

Photographs are decoded by a few threads. The model runs in one other thread, which batches (queue.py) and
single explanations share. A photograph that cannot be read has a RefusedError for its answer.
"""

import asyncio
import io
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from functools import partial
from typing import Any, TypeVar

from fastapi import Request
from PIL import Image
from python_multipart.multipart import parse_options_header
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from mpfgvc.data.images import image_size, read_image
from mpfgvc.deploy.server.documents import CLIENT_GONE, NO_ADDRESSES, Measures, RefusedError
from mpfgvc.deploy.server.queue import Batcher, Capacity, Threads
from mpfgvc.deploy.server.settings import Limits
from mpfgvc.errors import DataError, MpfgvcError, printable
from mpfgvc.inference.backends import Pixels
from mpfgvc.inference.predictor import PhotoOutput, Predictor

Result = TypeVar("Result")
Upload = tuple[str, bytes]
"""What the client calls a file, and its content."""
Named = tuple[str, Result | RefusedError]
"""What became of an upload of this name."""
_MOST_FIELDS = 16  # only to say what is wrong with them
_FIELD_BYTES = 4096


class PhotoService:
    """Answers the photographs of requests by one model, while `batcher.run` runs in the server's event loop."""

    def __init__(self, model: Predictor, *, limits: Limits, measures: Measures) -> None:
        self.model, self.limits, self._measures = model, limits, measures
        self._decoders, self._worker = Threads(limits.decoders), Threads(1)
        self.batcher = Batcher[Pixels, PhotoOutput](
            model.run,
            worker=self._worker,
            largest=limits.batch_size,
            longest_wait=limits.wait / 1000,
            on_batch=measures.batch,
        )
        self.capacity = Capacity(
            photographs=limits.queue,
            size=8 * limits.request_bytes,
            seconds_left=lambda inside: inside * self.batcher.seconds_per_item,
        )

    async def answers(self, request: Request) -> list[Named[PhotoOutput]]:
        """The output of the model about each upload of a request, in order.

        Raises RefusedError: what `_read_uploads` says, 504 after the time limit, 503 if too much is in flight,
        and why no photograph can be read if none of them can be.
        """
        return await self._answers(request, self._predict, most=self.limits.max_photographs)

    async def answer(self, request: Request, work: Callable[[Image.Image, str], Result]) -> Any:
        """What `work` makes, in the model's thread, of the one photograph of a request and its name.

        Raises RefusedError as `answers` does.
        """
        ((_, answer),) = await self._answers(request, partial(self._work, work), most=1)
        return answer

    async def _answers(
        self, request: Request, answer: Callable[[Upload], Coroutine[Any, Any, Result]], *, most: int
    ) -> list[Named[Result]]:
        with self.capacity.share() as take:
            uploads = await _read_uploads(request, take, self.limits, most)
            take(len(uploads) - 1, 0)
            return await self._outcomes(request, uploads, answer)

    async def _predict(self, upload: Upload) -> PhotoOutput:
        decoded = asyncio.get_running_loop().run_in_executor(self._decoders, self._prepared, upload[1])
        return await self.batcher.submit(await decoded)

    async def _work(self, work: Callable[[Image.Image, str], Result], upload: Upload) -> Result:
        (name, content), loop = upload, asyncio.get_running_loop()
        photograph = await loop.run_in_executor(self._decoders, self._read, content)
        return await loop.run_in_executor(self._worker, work, photograph, name)

    def _prepared(self, content: bytes) -> Pixels:
        return self.model.prepare(self._read(content))

    def _read(self, content: bytes) -> Image.Image:
        """The photograph, after its header was looked at. Raises DataError or RefusedError."""
        height, width = image_size(io.BytesIO(content))
        if height * width > self.limits.max_megapixels * 1e6:
            size = f"{width} x {height} pixels are more than {self.limits.max_megapixels:g} megapixels"
            raise RefusedError(413, f"{size}; scale the photograph down")
        return read_image(io.BytesIO(content), at_least=self.model.preprocessing.at_least)

    async def _outcomes(
        self, request: Request, uploads: Sequence[Upload], answer: Callable[[Upload], Coroutine[Any, Any, Result]]
    ) -> list[Named[Result]]:
        """All results, unless the time is over or the client went away: then the rest is given up."""

        async def all_of_them() -> list[Result | BaseException]:
            return await asyncio.gather(*map(answer, uploads), return_exceptions=True)

        results = asyncio.create_task(all_of_them())  # a gathering that is cancelled itself writes to the log
        gone = asyncio.ensure_future(_client_gone(request))
        either: set[asyncio.Future[Any]] = {results, gone}
        try:
            done, _ = await asyncio.wait(either, timeout=self.limits.timeout, return_when=asyncio.FIRST_COMPLETED)
            if results not in done and gone in done:
                raise RefusedError(CLIENT_GONE, "the client went away")
            if results not in done:
                line = f"there was no answer within {self.limits.timeout:g} seconds"
                raise RefusedError(504, f"{line}; send fewer or smaller photographs")
            outcomes = [_outcome(result) for result in results.result()]
        finally:
            gone.cancel()
            results.cancel()
        unreadable = [outcome for outcome in outcomes if isinstance(outcome, RefusedError)]
        self._measures.photographs(answered=len(outcomes) - len(unreadable), unreadable=len(unreadable))
        if len(unreadable) == len(outcomes):
            raise unreadable[0]
        return [(name, outcome) for (name, _), outcome in zip(uploads, outcomes, strict=True)]


def _outcome(result: Result | BaseException) -> Result | RefusedError:
    """The result, or why there is none. Raises what is no fault of the photograph."""
    if isinstance(result, DataError):
        return RefusedError(422, str(result))
    if isinstance(result, MpfgvcError):
        raise RefusedError(500, str(result))
    if isinstance(result, BaseException) and not isinstance(result, RefusedError):
        raise result
    return result


async def _client_gone(request: Request) -> None:
    """Returns when the client has closed its connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _read_uploads(request: Request, take: Callable[[int, int], None], limits: Limits, most: int) -> list[Upload]:
    """The files of a request, 1 to `most`; `take` is told what they need.

    Raises RefusedError: 400 for what is not a form of files, 408 for a body that comes too slowly, 413 for
    one that is too large, 415 for another type, 503 if others take the room.
    """
    _check_type(request)
    content = _within_limits(request, take, limits)
    parser = _MemoryParser(
        request.headers, content, max_files=most, max_fields=_MOST_FIELDS, max_part_size=_FIELD_BYTES
    )
    try:
        async with asyncio.timeout(limits.timeout):
            form = await parser.parse()
    except TimeoutError:
        raise RefusedError(408, f"the upload took more than {limits.timeout:g} seconds") from None
    except ClientDisconnect:
        raise RefusedError(CLIENT_GONE, "the client went away") from None
    except MultiPartException as error:
        if error.message.startswith("Too many files"):
            several = f"{most} photographs" if most > 1 else "one photograph"
            raise RefusedError(413, f"at most {several} a request; send several requests") from None
        raise RefusedError(400, f"the form cannot be read: {printable(error.message)[:200]}") from None
    uploads = []
    for _, value in form.multi_items():
        if isinstance(value, str):
            raise RefusedError(400, f"a part of the form is text, not a file; {NO_ADDRESSES}")
        uploads.append((value.filename or "", await value.read()))
    if not uploads:
        raise RefusedError(400, "the form holds no file; send one as curl -F photograph=@bird.jpg does")
    return uploads


class _MemoryParser(MultiPartParser):
    """Keeps files of any size in memory; who feeds it stops in time."""

    spool_max_size = 1 << 40


async def _within_limits(
    request: Request, take: Callable[[int, int], None], limits: Limits
) -> AsyncGenerator[bytes, None]:
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limits.request_bytes:
            line = f"the request has more than {limits.max_megabytes:g} MB; scale the photographs down"
            raise RefusedError(413, line)
        take(0, len(chunk))
        yield chunk


def _check_type(request: Request) -> None:
    kind, parameters = parse_options_header(request.headers.get("content-type", ""))
    if kind != b"multipart/form-data":
        name = printable(kind.decode("latin-1"))[:80] or "none"
        hint = "send the photograph as multipart/form-data, as curl -F photograph=@bird.jpg does"
        raise RefusedError(415, f"the content type must be multipart/form-data, got {name}; {hint}")
    if not parameters.get(b"boundary"):
        raise RefusedError(400, "the content type names no boundary between the parts")
