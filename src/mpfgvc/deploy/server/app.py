"""The HTTP application: its routes, who may ask, and what is counted.

    POST /classify   photographs -> ranked guesses        GET /classes   the names of the classes
    POST /explain    a photograph -> what it rests on     GET /health    the model is not stuck
    POST /embed      photographs -> embeddings            GET /ready     it takes photographs now
                                                          GET /metrics   counters for Prometheus

`docs/serving.md` and the page `/docs` describe it for users, `/openapi.json` for programs. The interactive pages
of FastAPI are left out: they load their scripts from elsewhere.

A page of another site can make a browser send requests to a server on this machine. If the server listens on
this machine only, it answers nobody who calls it by another name: such a page cannot read its answers.
"""

import asyncio
import hmac
import io
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache, partial
from importlib.resources import files
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from PIL import Image
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mpfgvc.deploy.server.documents import (
    CLIENT_GONE,
    ClassesDocument,
    ClassifyOptions,
    ErrorDocument,
    ExplainDocument,
    ExplainOptions,
    Measures,
    NoOptions,
    PhotographsDocument,
    RefusedError,
    StateDocument,
    add_handlers,
    answer_to,
    explained,
    html_page,
    json_response,
    photographs,
)
from mpfgvc.deploy.server.settings import Limits
from mpfgvc.deploy.server.uploads import PhotoService
from mpfgvc.errors import ConfigError
from mpfgvc.inference.answering import Answering
from mpfgvc.inference.predictor import Predictor
from mpfgvc.terms import VERSION

_REFUSALS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorDocument, "description": "The request is refused; docs/serving.md lists why."},
    "5XX": {"model": ErrorDocument, "description": "501: the model cannot do that. 503: send it again, later."},
}
_FILES = {
    "type": "array",
    "items": {"type": "string", "format": "binary"},
    "minItems": 1,
    "description": "One or several files: JPEG, PNG, WebP, AVIF, TIFF, GIF, BMP; HEIC with the extra heic.",
}
_FORM = {"type": "object", "properties": {"photograph": _FILES}, "required": ["photograph"]}
UPLOAD = {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _FORM}}}}
"""What the OpenAPI document says of a route that takes photographs; the parts may have any names."""
_BEARER = HTTPBearer(auto_error=False, description="Needed if the server was started with a token.")


def create_app(
    model: Predictor,
    *,
    limits: Limits,
    token: str | None = None,
    names: Sequence[str] = (),
    origins: Sequence[str] = (),
) -> FastAPI:
    """The application that serves a model, to those with the `token` if there is one.

    `names` are all that it may be called by; empty = any. Pages of the sites `origins` may read its answers.
    `app.state.service` answers photographs, `app.state.token` is the dependency of further routes that need it.
    """
    measures = Measures()
    service = PhotoService(model, limits=limits, measures=measures)

    @asynccontextmanager
    async def life(_app: FastAPI) -> AsyncIterator[None]:
        batches = asyncio.create_task(service.batcher.run())
        yield
        batches.cancel()  # every request has been answered, or has given up

    app = FastAPI(
        title="mpfgvc",
        version=VERSION,
        summary="Fine-grained classification of photographs.",
        lifespan=life,
        responses=_REFUSALS,
        docs_url=None,
        redoc_url=None,
    )
    app.state.service, app.state.token = service, Depends(_token_check(token))
    add_handlers(app)
    app.include_router(_model_routes(service, measures), dependencies=[app.state.token])

    page = html_page(files("mpfgvc.deploy.server").joinpath("docs.html").read_text("utf-8"))

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return page

    @app.get("/health", response_model=StateDocument)
    async def health() -> Response:
        """Whether the model answers: 503 if a batch takes more than twice the time limit."""
        if (seconds := service.batcher.busy_seconds) > 2 * limits.timeout:
            raise RefusedError(503, f"the model has been at one batch for {seconds:.0f} seconds; start the server anew")
        return json_response({"status": "ok"})

    @app.get("/ready", response_model=StateDocument)
    async def ready() -> Response:
        """Whether a photograph would be admitted now."""
        service.capacity.check_room()
        return json_response({"status": "ready"})

    app.add_middleware(_Gate, measures=measures, names=names)
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization"],
            expose_headers=["Retry-After"],
        )
    return app


def warm_up(model: Predictor) -> None:
    """Compute once, so that the first request is as fast as the others, and a damaged model is found now."""
    model.run([model.prepare(Image.new("RGB", (64, 64), "gray"))])


def _model_routes(service: PhotoService, measures: Measures) -> APIRouter:
    routes, model = APIRouter(), service.model
    answering = lru_cache(maxsize=256)(partial(Answering, model.backend.facts, source=model.source))

    @routes.post("/classify", response_model=PhotographsDocument, openapi_extra=UPLOAD)
    async def classify(request: Request, options: Annotated[ClassifyOptions, Query()]) -> Response:
        """Ranked guesses for photographs. One that cannot be read has an error in its place."""
        try:
            rules = answering(options.rules)
        except ConfigError as error:
            raise RefusedError(422, str(error)) from None
        said = partial(answer_to, rules=rules, top=options.top)
        return json_response(photographs(await service.answers(request), model.digest, said))

    @routes.post("/embed", response_model=PhotographsDocument, openapi_extra=UPLOAD)
    async def embed(request: Request, options: Annotated[NoOptions, Query()]) -> Response:
        """The embeddings of photographs, to compare them by their cosine: those of one digest."""
        outcomes = await service.answers(request)
        return json_response(
            photographs(outcomes, model.digest, lambda output: {"embedding": output.embedding.tolist()})
        )

    @routes.post("/explain", response_model=ExplainDocument, openapi_extra=UPLOAD)
    async def explain(request: Request, options: Annotated[ExplainOptions, Query()]) -> Response:
        """What the answer about one photograph rests on: kept patches, attention, and evidence."""
        try:
            model.backend.trained()
        except ConfigError:
            raise RefusedError(501, "this model cannot explain its answers; serve the run itself") from None
        if options.format == "png":
            return Response(await service.answer(request, partial(_drawn, model, options)), media_type="image/png")
        return json_response(await service.answer(request, partial(_explained, model, options)))

    @routes.get("/classes", response_model=ClassesDocument)
    async def classes() -> Response:
        """The names of the classes, and the digest of the weights."""
        return json_response({"digest": model.digest, "classes": list(model.classes)})

    @routes.get("/metrics", responses={200: {"content": {"text/plain": {}}}})
    async def metrics() -> Response:
        """Counters for Prometheus."""
        return measures.response(inside=service.capacity.photographs)

    return routes


def _explained(model: Predictor, options: ExplainOptions, photograph: Image.Image, name: str) -> Any:
    view = None
    if options.view:
        view = model.view(photograph)
        view.thumbnail((options.view, options.view))
    return explained(name, model.explain(photograph, top=options.top), view)


def _drawn(model: Predictor, options: ExplainOptions, photograph: Image.Image, name: str) -> bytes:
    from mpfgvc.inference.picture import draw

    content = io.BytesIO()
    draw([(name, model.explain(photograph, top=options.top))]).save(content, format="PNG")
    return content.getvalue()


def _token_check(token: str | None) -> Callable[..., Coroutine[Any, Any, None]]:
    """A dependency that raises RefusedError (401) for a request without the token, if there is one."""

    async def check(sent: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)]) -> None:
        if token is not None and sent is None:
            raise RefusedError(401, "this server needs a token: send Authorization: Bearer TOKEN")
        if token is not None and sent and not hmac.compare_digest(sent.credentials.encode(), token.encode()):
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
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0].lower()
