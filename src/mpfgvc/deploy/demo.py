"""The demo: a page for people on the same server, with examples and the nearest training photographs.

The page is one file, `demo.html`. A browser that shows it is told by its headers to load nothing from
elsewhere. Photographs of the run are named by numbers, so no request can name another file.

    GET /             the page
    GET /examples     test photographs of the run, and their classes
    GET /shown/{n}    a photograph of the run, as a picture
    POST /similar     the training photographs that look most alike
"""

import base64
import hashlib
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from mpfgvc.data.samples import Sample
from mpfgvc.deploy.app import answers, desk_of
from mpfgvc.deploy.desk import Unreadable
from mpfgvc.deploy.documents import NoOptions
from mpfgvc.deploy.refusals import RefusedError, json_response
from mpfgvc.deploy.uploads import UPLOAD_SCHEMA, read_uploads
from mpfgvc.errors import DataError
from mpfgvc.inference.search import EmbeddingIndex

PAGE = "demo.html"
_SHOWN_SIDE = 1024
_SMALL_SIDE = 256
_KEPT_PICTURES = 256


@dataclass(frozen=True, kw_only=True)
class DemoContent:
    """What the page shows beside the answers: photographs of the run, of which some are examples.

    `index` holds embeddings of the first of `photographs`, in their order; None if the run has none.
    """

    classes: Sequence[str] = ()
    photographs: Sequence[Sample] = ()
    examples: Sequence[int] = ()
    index: EmbeddingIndex | None = None
    notes: Sequence[str] = field(default=())
    """Lines for who starts the demo: what it goes without, and how to get it."""


class ExampleDocument(BaseModel):
    """A photograph of the run: its number, and its true class."""

    number: int
    label: str


class ExamplesDocument(BaseModel):
    """The answer of /examples."""

    examples: list[ExampleDocument]
    similar: bool = Field(description="Whether /similar has anything to search.")


class NeighbourDocument(BaseModel):
    """A training photograph, and the cosine of both embeddings."""

    number: int
    label: str
    similarity: float


class SimilarDocument(BaseModel):
    """The answer of /similar, nearest first."""

    nearest: list[NeighbourDocument]


class SimilarOptions(NoOptions):
    """The options of /similar."""

    top: int = Field(6, ge=1, le=50, description="Photographs, nearest first.")


class ShownOptions(NoOptions):
    """The options of /shown."""

    small: bool = Field(False, description="As small as a list needs it.")


def add_demo(app: FastAPI, content: DemoContent) -> None:
    """Give the page and its routes to an application of `create_app`."""
    app.include_router(_page_route())
    app.include_router(_run_routes(content), dependencies=[Depends(app.state.token_check)])


def page_policy(page: str) -> str:
    """The Content-Security-Policy of a page: its own script and style, and requests to its own server."""
    script, style = (_digest(page, tag) for tag in ("script", "style"))
    return (
        f"default-src 'none'; script-src '{script}'; style-src '{style}'; "
        "img-src 'self' blob: data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _digest(page: str, tag: str) -> str:
    content = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)[0]
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


def _page_route() -> APIRouter:
    routes = APIRouter()
    page = files("mpfgvc.deploy").joinpath(PAGE).read_text("utf-8")
    headers = {
        "Content-Security-Policy": page_policy(page),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-cache",
    }

    @routes.get("/", include_in_schema=False)
    async def show_page() -> Response:
        return Response(page, media_type="text/html", headers=headers)

    return routes


def _run_routes(content: DemoContent) -> APIRouter:
    routes = APIRouter()
    pictures = lru_cache(maxsize=_KEPT_PICTURES)(lambda number, side: _picture(content, number, side))

    @routes.get("/examples", responses=answers(ExamplesDocument, 401))
    async def examples() -> Response:
        """Test photographs of the run to try, and their true classes."""
        found = [{"number": each, "label": _label(content, each)} for each in content.examples]
        return json_response({"examples": found, "similar": content.index is not None})

    @routes.get("/shown/{number}", responses={200: {"content": {"image/jpeg": {}, "image/png": {}}}})
    async def shown(number: int, options: Annotated[ShownOptions, Query()]) -> Response:
        """A photograph of the run, by its number."""
        if not 0 <= number < len(content.photographs):
            raise RefusedError(404, f"there is no photograph {number}")
        side = _SMALL_SIDE if options.small else _SHOWN_SIDE
        picture, kind = await run_in_threadpool(pictures, number, side)
        return Response(picture, media_type=kind, headers={"Cache-Control": "private, max-age=3600"})

    @routes.post(
        "/similar",
        openapi_extra=UPLOAD_SCHEMA,
        responses=answers(SimilarDocument, 400, 401, 408, 413, 415, 422, 501, 503, 504),
    )
    async def similar(request: Request, options: Annotated[SimilarOptions, Query()]) -> Response:
        """The training photographs that look most like a photograph to the model."""
        if content.index is None:
            raise RefusedError(501, "the run has no embeddings; make them with mpfgvc embed RUN")
        return json_response({"nearest": await _nearest(request, content, content.index, options.top)})

    return routes


async def _nearest(
    request: Request, content: DemoContent, index: EmbeddingIndex, top: int
) -> list[dict[str, Any]]:
    desk = desk_of(request)
    with desk.admission.ticket() as ticket:
        uploads = await read_uploads(request, ticket, desk.limits)
        if len(uploads) > 1:
            raise RefusedError(413, f"one photograph at a time is compared, got {len(uploads)}")
        (outcome,) = await desk.answers(request, uploads)
    if isinstance(outcome.result, Unreadable):
        raise RefusedError(501, "this model has no embeddings")
    (found,) = index.nearest(np.stack([outcome.result.embedding]), top=top)
    return [
        {
            "number": int(each.path),
            "label": _label(content, int(each.path)),
            "similarity": max(-1.0, min(1.0, each.similarity)),
        }
        for each in found
    ]


def _label(content: DemoContent, number: int) -> str:
    return content.classes[content.photographs[number].label]


def _picture(content: DemoContent, number: int, side: int) -> tuple[bytes, str]:
    """A photograph as a picture, and its type; a small one without loss. Raises RefusedError."""
    try:
        image = content.photographs[number].read(at_least=(side, side))
    except DataError:
        raise RefusedError(404, f"photograph {number} cannot be read any more") from None
    lossless = max(image.size) <= _SMALL_SIDE
    image.thumbnail((side, side))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG" if lossless else "JPEG", **({} if lossless else {"quality": 92}))
    return buffer.getvalue(), "image/png" if lossless else "image/jpeg"
