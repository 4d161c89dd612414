"""Why a request is not answered: a status, one line, and when to try again.

Every refusal has the same body, `{"error": "one line"}`, whoever makes it: a limit, a wrong option, an
unknown path, or a photograph that cannot be read.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from mpfgvc.errors import one_line

CLIENT_GONE = 499
"""What a request is counted as whose client went away; nobody receives it."""
NO_ADDRESSES = "send the bytes of the photograph, not its address: this server fetches nothing"
_ADDRESS_OPTIONS = {"url", "uri", "image_url", "href", "link"}


class RefusedError(Exception):
    """A request that gets no answer; `retry_after` is in seconds."""

    def __init__(self, status: int, line: str, *, retry_after: int | None = None) -> None:
        super().__init__(line)
        self.status, self.line, self.retry_after = status, line, retry_after

    def response(self) -> Response:
        """What the client gets."""
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return json_response({"error": self.line}, status=self.status, headers=headers)


def json_response(document: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A document as JSON in ASCII: names of classes and files may hold characters that UTF-8 cannot."""
    body = json.dumps(document, allow_nan=False).encode("ascii")
    return Response(body, status_code=status, headers=headers, media_type="application/json")


def add_handlers(app: FastAPI) -> None:
    """Let every refusal leave the app in the same form."""
    app.exception_handler(RefusedError)(_on_refusal)
    app.exception_handler(HTTPException)(_on_http_error)
    app.exception_handler(RequestValidationError)(_on_wrong_option)


async def _on_refusal(_request: Request, error: RefusedError) -> Response:
    return error.response()


async def _on_http_error(_request: Request, error: HTTPException) -> Response:
    return json_response({"error": str(error.detail)}, status=error.status_code, headers=error.headers)


async def _on_wrong_option(_request: Request, error: RequestValidationError) -> Response:
    """FastAPI's own handler puts the input into its answer, and fails where that is not text."""
    return json_response({"error": "; ".join(_lines(error.errors()))}, status=422)


def _lines(errors: Sequence[Any]) -> list[str]:
    lines = []
    for each in errors:
        name = str(each["loc"][-1]) if each["loc"] else "request"
        if each["type"] == "extra_forbidden":
            rule = NO_ADDRESSES if name.lower() in _ADDRESS_OPTIONS else "is not an option of this request"
        else:
            rule = one_line(ValueError(each["msg"]))
        lines.append(f"{name[:80]}: {rule}")
    return lines
