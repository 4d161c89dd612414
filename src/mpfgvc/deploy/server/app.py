"""The HTTP application: its routes, who may ask, and what is counted.

    POST /classify   photographs -> ranked guesses        GET /classes   the names of the classes
    POST /explain    a photograph -> what it rests on     GET /health    the process answers
    POST /embed      photographs -> embeddings            GET /ready     it takes photographs now
                                                          GET /metrics   counters for Prometheus

`docs/serving.md` describes it for users, and `/openapi.json` for programs. The interactive pages of FastAPI
are left out: they load their scripts from elsewhere.

A page of another site can make a browser send requests to a server on this machine. If the server listens on
this machine only, it answers nobody who calls it by another name: such a page cannot read its answers.
"""

import hmac
import io
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache, partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from PIL import Image
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mpfgvc.deploy.server import documents
from mpfgvc.deploy.server.documents import (
    CLIENT_GONE,
    METRICS_TYPE,
    ClassesDocument,
    ClassifyDocument,
    ClassifyOptions,
    EmbedDocument,
    ErrorDocument,
    ExplainDocument,
    ExplainOptions,
    Measures,
    NoOptions,
    RefusedError,
    StateDocument,
    add_handlers,
    json_response,
)
from mpfgvc.deploy.server.settings import Limits
from mpfgvc.deploy.server.uploads import Desk
from mpfgvc.errors import ConfigError
from mpfgvc.inference.answering import Answering
from mpfgvc.inference.predictor import Predictor
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
_FILES = {
    "type": "array",
    "items": {"type": "string", "format": "binary"},
    "minItems": 1,
    "description": "One or several files: JPEG, PNG, WebP, AVIF, TIFF, GIF, BMP; HEIC with the extra heic.",
}
_FORM = {"type": "object", "properties": {"photograph": _FILES}, "required": ["photograph"]}
_BEARER = HTTPBearer(auto_error=False, description="Needed if the server was started with a token.")


def create_app(model: Predictor, *, limits: Limits, token: str | None = None, names: Sequence[str] = ()) -> FastAPI:
    """The application that serves a model, to those with the `token` if there is one.

    `names` are all that it may be called by; empty = any. `app.state.desk` is where photographs are answered,
    `app.state.token` the dependency of further routes that need the token.
    """
    measures = Measures()
    desk = Desk(model, limits=limits, measures=measures)

    @asynccontextmanager
    async def life(_app: FastAPI) -> AsyncIterator[None]:
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
    app.state.desk, app.state.token = desk, Depends(_token_check(token))
    add_handlers(app)
    app.include_router(_open_routes(desk))
    app.include_router(_photograph_routes(desk), dependencies=[app.state.token])
    app.include_router(_model_routes(desk, measures), dependencies=[app.state.token])
    app.add_middleware(_Gate, measures=measures, names=names)
    return app


def warm_up(model: Predictor) -> None:
    """Compute once, so that the first request is as fast as the others, and a damaged model is found now."""
    model.run([model.prepare(Image.new("RGB", (64, 64), "gray"))])


def takes_photographs(document: type[Any], *more: int) -> dict[str, Any]:
    """What the OpenAPI document says of a route that takes uploads; the parts may have any names."""
    body = {"required": True, "content": {"multipart/form-data": {"schema": _FORM}}}
    statuses = sorted((400, 401, 408, 413, 415, 422, 503, 504, *more))
    return {"openapi_extra": {"requestBody": body}, "responses": answers(document, *statuses)}


def answers(document: type[Any] | None, *statuses: int) -> dict[int | str, dict[str, Any]]:
    """The answer of a route and its refusals, for the OpenAPI document; None is no JSON."""
    refused: dict[int | str, dict[str, Any]] = {
        status: {"model": ErrorDocument, "description": _WHY[status]} for status in statuses
    }
    return refused if document is None else {200: {"model": document}, **refused}


def _photograph_routes(desk: Desk) -> APIRouter:
    routes, model = APIRouter(), desk.model
    answering = lru_cache(maxsize=256)(partial(Answering, model.backend.facts, source=model.source))

    @routes.post("/classify", **takes_photographs(ClassifyDocument))
    async def classify(request: Request, options: Annotated[ClassifyOptions, Query()]) -> Response:
        """Ranked guesses for photographs. One that cannot be read has an error in its place."""
        try:
            rules = answering(options.rules)
        except ConfigError as error:
            raise RefusedError(422, str(error)) from None
        return json_response(documents.classified(await desk.answers(request), rules, options.top))

    @routes.post("/embed", **takes_photographs(EmbedDocument))
    async def embed(request: Request, options: Annotated[NoOptions, Query()]) -> Response:
        """The embeddings of one or several photographs, to compare them by their cosine."""
        return json_response(documents.embedded(await desk.answers(request), model.digest))

    @routes.post("/explain", **takes_photographs(ExplainDocument, 501))
    async def explain(request: Request, options: Annotated[ExplainOptions, Query()]) -> Response:
        """What the answer about one photograph rests on: kept patches, attention, and evidence."""
        try:
            model.backend.trained()
        except ConfigError:
            line = "this model cannot explain its answers; serve the run itself"
            raise RefusedError(501, line) from None
        if options.format == "png":
            picture = await desk.answer(request, "explained", partial(_drawn, model, options))
            return Response(picture, media_type="image/png")
        return json_response(await desk.answer(request, "explained", partial(_explained, model, options)))

    return routes


def _explained(model: Predictor, options: ExplainOptions, photograph: Image.Image, name: str) -> Any:
    view = None
    if options.view:
        view = model.view(photograph)
        view.thumbnail((options.view, options.view))
    return documents.explained(name, model.explain(photograph, top=options.top), view)


def _drawn(model: Predictor, options: ExplainOptions, photograph: Image.Image, name: str) -> bytes:
    from mpfgvc.inference.picture import draw

    content = io.BytesIO()
    draw([(name, model.explain(photograph, top=options.top))]).save(content, format="PNG")
    return content.getvalue()


def _model_routes(desk: Desk, measures: Measures) -> APIRouter:
    routes = APIRouter()

    @routes.get("/classes", responses=answers(ClassesDocument, 401))
    async def classes() -> Response:
        """The names of the classes, and the digest of the weights."""
        return json_response({"digest": desk.model.digest, "classes": list(desk.model.classes)})

    @routes.get("/metrics", responses={200: {"content": {"text/plain": {}}}, **answers(None, 401)})
    async def metrics() -> Response:
        """Counters for Prometheus."""
        text = measures.text(inside=desk.places.photographs)
        return Response(text, headers={"Content-Type": METRICS_TYPE})

    return routes


def _open_routes(desk: Desk) -> APIRouter:
    routes = APIRouter()

    @routes.get("/health", responses=answers(StateDocument))
    async def health() -> Response:
        """Whether the process answers."""
        return json_response({"status": "ok"})

    @routes.get("/ready", responses=answers(StateDocument, 503))
    async def ready() -> Response:
        """Whether a photograph would be admitted now."""
        if not desk.places.is_open:
            raise RefusedError(503, "all places are taken", retry_after=desk.places.retry_after())
        return json_response({"status": "ready"})

    return routes


def _token_check(token: str | None) -> Callable[..., Coroutine[Any, Any, None]]:
    """A dependency that raises RefusedError (401) for a request without the token, if there is one."""
    wanted = None if token is None else token.encode()

    async def check(sent: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)]) -> None:
        if wanted is not None and sent is None:
            raise RefusedError(401, "this server needs a token: send Authorization: Bearer TOKEN")
        if wanted is not None and sent and not hmac.compare_digest(sent.credentials.encode(), wanted):
            raise RefusedError(401, "the token is wrong")

    return check


class _Gate:
    """Refuses, with 421, requests that call the server by another name; counts every request by its route."""

    def __init__(self, app: ASGIApp, measures: Measures, names: Sequence[str]) -> None:
        self._app, self._measures, self._names = app, measures, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self._names and _host_name(Headers(scope=scope).get("host", "")) not in self._names:
            line = "this server answers only as 127.0.0.1 or localhost; start it with --host for others"
            await RefusedError(421, line).response()(scope, receive, send)
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


def _host_name(host: str) -> str:
    """The name in a Host header, without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower()
