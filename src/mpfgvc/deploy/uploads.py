"""The photographs of a request: multipart/form-data, read in memory within limits, never written to disk.

Starlette's parser keeps a file in memory up to `spool_max_size`, and writes it to a temporary file beyond.
Here that size is out of reach: a body is refused before it grows so large. Anything that is not a file
is refused, too; above all an address, which the server would have to fetch.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from python_multipart.multipart import parse_options_header
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from mpfgvc.deploy.admission import Ticket
from mpfgvc.deploy.refusals import CLIENT_GONE, NO_ADDRESSES, RefusedError
from mpfgvc.deploy.settings import Limits
from mpfgvc.errors import printable

_ADDRESSES = ("http:", "https:", "ftp:", "file:", "data:", "s3:", "gs:", "//", "www.")
_MOST_FIELDS = 16  # only to say what is wrong with them
_FIELD_BYTES = 4096
UPLOAD_SCHEMA: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "photograph": {
                            "type": "array",
                            "items": {"type": "string", "format": "binary"},
                            "minItems": 1,
                            "description": "One or several files: JPEG, PNG, WebP, AVIF, TIFF, GIF, BMP.",
                        }
                    },
                    "required": ["photograph"],
                }
            }
        },
    }
}
"""What the OpenAPI document says of the body; the parts may have any names."""


@dataclass(frozen=True, kw_only=True)
class Upload:
    """The bytes of one file, and what the client calls it."""

    name: str
    content: bytes


async def read_uploads(request: Request, ticket: Ticket, limits: Limits) -> list[Upload]:
    """The files of a request, at least one.

    Raises RefusedError: 400 for what is not a form of files, 408 for a body that comes too slowly, 413 for
    one that is too large, 415 for another type, 503 if others take the room.
    """
    _refuse_other_types(request)
    _refuse_announced_size(request, limits)
    stream = _within_limits(request.stream(), ticket, limits)
    parser = _MemoryParser(
        request.headers,
        stream,
        max_files=limits.max_photographs,
        max_fields=_MOST_FIELDS,
        max_part_size=_FIELD_BYTES,
    )
    try:
        async with asyncio.timeout(limits.timeout):
            form = await parser.parse()
    except TimeoutError:
        raise RefusedError(408, f"the upload took more than {limits.timeout:g} seconds") from None
    except ClientDisconnect:
        raise RefusedError(CLIENT_GONE, "the client went away") from None
    except MultiPartException as error:
        raise _malformed(error.message, limits) from None
    return await _files([value for _, value in form.multi_items()])


class _MemoryParser(MultiPartParser):
    """Keeps files of any size in memory; who feeds it stops in time."""

    spool_max_size = 1 << 40


async def _within_limits(
    stream: AsyncIterator[bytes], ticket: Ticket, limits: Limits
) -> AsyncGenerator[bytes, None]:
    size = 0
    async for chunk in stream:
        size += len(chunk)
        if size > limits.request_bytes:
            raise _too_large(limits)
        ticket.take_bytes(len(chunk))
        yield chunk


def _refuse_other_types(request: Request) -> None:
    kind, parameters = parse_options_header(request.headers.get("content-type", ""))
    if kind != b"multipart/form-data":
        name = printable(kind.decode("latin-1"))[:80] or "none"
        hint = "send the photograph as multipart/form-data, as curl -F photograph=@bird.jpg does"
        raise RefusedError(415, f"the content type must be multipart/form-data, got {name}; {hint}")
    if not parameters.get(b"boundary"):
        raise RefusedError(400, "the content type names no boundary between the parts")


def _refuse_announced_size(request: Request, limits: Limits) -> None:
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced[:20]) > limits.request_bytes:
        raise _too_large(limits)


def _too_large(limits: Limits) -> RefusedError:
    return RefusedError(
        413, f"the request has more than {limits.max_megabytes:g} MB; scale the photographs down"
    )


def _malformed(message: str, limits: Limits) -> RefusedError:
    if message.startswith("Too many files"):
        return RefusedError(
            413, f"at most {limits.max_photographs} photographs a request; send several requests"
        )
    return RefusedError(400, f"the form cannot be read: {printable(message)[:200]}")


async def _files(values: list[UploadFile | str]) -> list[Upload]:
    for value in values:
        if isinstance(value, str):
            raise _no_file(value)
    uploads = [
        Upload(name=value.filename or "", content=await value.read())
        for value in values
        if isinstance(value, UploadFile)
    ]
    if not uploads:
        raise RefusedError(400, "the form holds no file; send one as curl -F photograph=@bird.jpg does")
    for upload in uploads:
        if upload.content[:16].lstrip().lower().startswith(tuple(map(str.encode, _ADDRESSES))):
            raise _no_file(upload.content[:16].decode("latin-1"))
    return uploads


def _no_file(value: str) -> RefusedError:
    if value.strip().lower().startswith(_ADDRESSES):
        return RefusedError(400, NO_ADDRESSES)
    return RefusedError(400, "a part of the form is text, not a file; send only photographs")
