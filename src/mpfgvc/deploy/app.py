"""The HTTP application: its routes, and what happens before and after each of them.

    POST /classify   photographs -> ranked guesses        GET /classes   the names of the classes
    POST /explain    a photograph -> what it rests on     GET /health    the process answers
    POST /embed      photographs -> embeddings            GET /ready     it takes photographs now
                                                          GET /metrics   counters for Prometheus

`docs/serving.md` describes it for users, and `/openapi.json` for programs. The interactive pages of FastAPI
are left out: they load their scripts from elsewhere.
"""

import io
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import lru_cache, partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from PIL import Image
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mpfgvc.deploy import documents
from mpfgvc.deploy.access import token_check
from mpfgvc.deploy.desk import Desk, Outcome
from mpfgvc.deploy.documents import (
    ClassesDocument,
    ClassifyDocument,
    ClassifyOptions,
    EmbedDocument,
    ErrorDocument,
    ExplainDocument,
    ExplainOptions,
    NoOptions,
    StateDocument,
)
from mpfgvc.deploy.measures import CONTENT_TYPE, Measures
from mpfgvc.deploy.refusals import CLIENT_GONE, RefusedError, add_handlers, json_response
from mpfgvc.deploy.settings import Limits
from mpfgvc.deploy.uploads import UPLOAD_SCHEMA, read_uploads
from mpfgvc.errors import ConfigError
from mpfgvc.inference.answering import Answering
from mpfgvc.inference.predictor import PhotoOutput, Predictor
from mpfgvc.terms import VERSION

_WHY = {
    400: "The form is not one of files, or holds an address.",
    401: "The token is missing or wrong.",
    408: "The upload took too long.",
    413: "Too many bytes, pixels or photographs.",
    415: "The body is not multipart/form-data.",
    422: "A wrong option, or no photograph could be read.",
    501: "This model cannot do that.",
    503: "All places are taken; Retry-After says when to try again.",
    504: "The answer took too long.",
}


def create_app(model: Predictor, *, limits: Limits, token: str | None = None) -> FastAPI:
    """The application that serves a model. `app.state.desk` is where photographs are answered."""
    measures = Measures()

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        desk = Desk(model, limits=limits, measures=measures)
        app.state.desk = desk
        desk.start()
        yield
        await desk.close()

    app = FastAPI(
        title="mpfgvc",
        version=VERSION,
        summary="Fine-grained classification of photographs.",
        lifespan=life,
        docs_url=None,
        redoc_url=None,
    )
    app.state.token_check = token_check(token)
    add_handlers(app)
    app.include_router(_open_routes())
    app.include_router(_photograph_routes(model), dependencies=[Depends(app.state.token_check)])
    app.include_router(_model_routes(model, measures), dependencies=[Depends(app.state.token_check)])
    app.add_middleware(_Measured, measures=measures)
    return app


def desk_of(request: Request) -> Desk:
    """Where the photographs of a request are answered."""
    desk: Desk = request.app.state.desk
    return desk


def refused(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The refusals of a route, for the OpenAPI document."""
    return {status: {"model": ErrorDocument, "description": _WHY[status]} for status in statuses}


def answers(document: type[Any], *statuses: int) -> dict[int | str, dict[str, Any]]:
    """The answer of a route and its refusals, for the OpenAPI document."""
    return {200: {"model": document}, **refused(*statuses)}


_UPLOAD_REFUSALS = (400, 401, 408, 413, 415, 422, 503, 504)


async def _answered(request: Request) -> tuple[Desk, list[Outcome[PhotoOutput]]]:
    """The desk, and what it has to say about each upload of a request."""
    desk = desk_of(request)
    with desk.admission.ticket() as ticket:
        uploads = await read_uploads(request, ticket, desk.limits)
        ticket.take_photographs(len(uploads) - 1)
        return desk, await desk.answers(request, uploads)


def _photograph_routes(model: Predictor) -> APIRouter:
    routes = APIRouter()

    answering = lru_cache(maxsize=256)(partial(Answering, model.backend.facts, source=model.source))

    @routes.post(
        "/classify", openapi_extra=UPLOAD_SCHEMA, responses=answers(ClassifyDocument, *_UPLOAD_REFUSALS)
    )
    async def classify(request: Request, options: Annotated[ClassifyOptions, Query()]) -> Response:
        """Ranked guesses for photographs. One that cannot be read has an error in its place."""
        try:
            rules = answering(options.rules)
        except ConfigError as error:
            raise RefusedError(422, str(error)) from None
        _, outcomes = await _answered(request)
        return json_response(documents.classified(outcomes, rules, top=options.top))

    @routes.post(
        "/embed", openapi_extra=UPLOAD_SCHEMA, responses=answers(EmbedDocument, *_UPLOAD_REFUSALS, 501)
    )
    async def embed(request: Request, options: Annotated[NoOptions, Query()]) -> Response:
        """The embeddings of one or several photographs, to compare them by their cosine."""
        desk, outcomes = await _answered(request)
        return json_response(documents.embedded(outcomes, desk.model.digest))

    @routes.post(
        "/explain", openapi_extra=UPLOAD_SCHEMA, responses=answers(ExplainDocument, *_UPLOAD_REFUSALS, 501)
    )
    async def explain(request: Request, options: Annotated[ExplainOptions, Query()]) -> Response:
        """What the answer about one photograph rests on: kept patches, attention, and evidence."""
        desk = desk_of(request)
        try:
            model.backend.trained()
        except ConfigError:
            raise RefusedError(501, "this model cannot explain its answers; serve the run itself") from None
        with desk.admission.ticket() as ticket:
            uploads = await read_uploads(request, ticket, desk.limits)
            if len(uploads) > 1:
                raise RefusedError(413, f"one photograph at a time is explained, got {len(uploads)}")
            (upload,) = uploads
            if options.format == "png":
                draw = partial(_drawn, model, title=upload.name, top=options.top)
                return Response(await desk.use(request, upload, draw), media_type="image/png")
            make = partial(_explained, model, name=upload.name, options=options)
            return json_response(await desk.use(request, upload, make))

    return routes


def _model_routes(model: Predictor, measures: Measures) -> APIRouter:
    routes = APIRouter()

    @routes.get("/classes", responses=answers(ClassesDocument, 401))
    async def classes() -> Response:
        """The names of the classes, and the digest of the weights."""
        return json_response({"digest": model.digest, "classes": list(model.classes)})

    @routes.get("/metrics", responses={200: {"content": {"text/plain": {}}}, **refused(401)})
    async def metrics(request: Request) -> Response:
        """Counters for Prometheus."""
        inside = desk_of(request).admission.photographs
        return Response(measures.text(inside=inside), headers={"Content-Type": CONTENT_TYPE})

    return routes


def _open_routes() -> APIRouter:
    routes = APIRouter()

    @routes.get("/health", responses=answers(StateDocument))
    async def health() -> Response:
        """Whether the process answers."""
        return json_response({"status": "ok"})

    @routes.get("/ready", responses=answers(StateDocument, 503))
    async def ready(request: Request) -> Response:
        """Whether a photograph would be admitted now."""
        admission = desk_of(request).admission
        if not admission.is_open:
            raise RefusedError(503, "all places are taken", retry_after=admission.retry_after())
        return json_response({"status": "ready"})

    return routes


def _explained(model: Predictor, photograph: Image.Image, *, name: str, options: ExplainOptions) -> Any:
    view = None
    if options.view:
        view = model.view(photograph)
        view.thumbnail((options.view, options.view))
    return documents.explained(name, model.explain(photograph, top=options.top), view)


def _drawn(model: Predictor, photograph: Image.Image, *, title: str, top: int) -> bytes:
    from mpfgvc.inference.explanation_picture import draw

    content = io.BytesIO()
    draw([(title, model.explain(photograph, top=top))]).save(content, format="PNG")
    return content.getvalue()


class _Measured:
    """Counts every request by the route that answered it."""

    def __init__(self, app: ASGIApp, measures: Measures) -> None:
        self._app, self._measures = app, measures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), CLIENT_GONE

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception:
            status = 500
            raise
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self._measures.request(route=route, status=status, seconds=time.perf_counter() - started)
