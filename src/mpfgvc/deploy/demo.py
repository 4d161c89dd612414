"""The demo: a page for people on the same server, with examples and the nearest training photographs.

The page is one file, `demo.html`. A browser that shows it is told by its headers to load nothing from
elsewhere. Photographs of the run are named by numbers, so no request can name another file.

    GET /             the page
    GET /examples     test photographs of the run, and their classes
    GET /shown/{n}    a photograph of the run, as a picture
    POST /similar     the training photographs that look most alike
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, FastAPI, Query, Request, Response
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from mpfgvc.data.run_photos import photos_of_run
from mpfgvc.data.samples import Sample
from mpfgvc.deploy.server.app import UPLOAD
from mpfgvc.deploy.server.documents import NoOptions, RefusedError, html_page, json_response
from mpfgvc.errors import DataError, MpfgvcError
from mpfgvc.inference.embeddings import EmbeddingIndex, index_for
from mpfgvc.inference.predictor import Predictor
from mpfgvc.run_folder import RunFolder

EXAMPLES = 8
MOST_WRONG = 0.1
"""The share of answers that may be wrong; the page calls the others unsure."""
_SHOWN_SIDE, _SMALL_SIDE = 1024, 256
_KEPT_PICTURES = 256


@dataclass(frozen=True, kw_only=True)
class DemoContent:
    """What the page shows beside the answers: photographs of the run. `index` is None without embeddings."""

    classes: Sequence[str] = ()
    trained: Sequence[Sample] = ()
    examples: Sequence[Sample] = ()
    index: EmbeddingIndex | None = None
    notes: Sequence[str] = ()
    """Lines for who starts the demo: what it goes without, and how to get it."""

    @cached_property
    def photographs(self) -> Sequence[Sample]:
        """All of them, by number: the training photographs, then the examples."""
        return (*self.trained, *self.examples)

    def nearest(self, embedding: Sequence[float], top: int) -> list[dict[str, Any]]:
        """The training photographs that look most like an embedding. Raises RefusedError (501)."""
        if self.index is None:
            raise RefusedError(501, "the run has no embeddings; make them with mpfgvc embed RUN")
        (found,) = self.index.nearest(np.array([embedding]), top=top, split="train")
        return [
            {
                "number": self._numbers[neighbour.path],
                "label": self.classes[self.trained[self._numbers[neighbour.path]].label],
                "similarity": max(-1.0, min(1.0, neighbour.similarity)),
            }
            for neighbour in found
            if neighbour.path in self._numbers
        ]

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {str(sample.path): number for number, sample in enumerate(self.trained)}


def content_of(
    run: str, predictor: Predictor, *, root: str | Path | None = None, manifest: str | Path | None = None
) -> DemoContent:
    """The content of a run's demo; an empty one, with a note, for a model that is not in a run folder.

    Whatever is missing (the dataset, a test split, embeddings) is left out, with a line that says how to get
    it. `root` and `manifest` say where the dataset is now, if it moved.
    """
    folder = RunFolder(run)
    if not folder.is_run:
        return DemoContent(notes=(f"{run} is not a run folder: there are no examples",))
    try:
        photos = photos_of_run(folder, root=root, manifest=manifest)
    except MpfgvcError as error:
        return DemoContent(notes=(f"there are no examples: {error}",))
    index, notes, tested = None, list(photos.notes), photos.found("test")
    try:
        if folder.embeddings.is_file():
            index = index_for(predictor, folder.embeddings)
        else:
            hint = f"make their embeddings with mpfgvc embed {folder.path}"
            notes.append(f"the nearest training photographs are not shown; {hint}")
    except MpfgvcError as error:
        notes.append(f"the nearest training photographs are not shown: {error}")
    rows = np.linspace(0, len(tested) - 1, min(EXAMPLES, len(tested))).round().astype(int)
    return DemoContent(
        classes=photos.photos.classes,
        trained=photos.found("train"),
        examples=[tested[row] for row in rows.tolist()],  # of classes far apart: samples are in their order
        index=index,
        notes=tuple(notes),
    )


class ExampleDocument(BaseModel):
    """A photograph of the run: its number, and its true class."""

    number: int
    label: str


class ExamplesDocument(BaseModel):
    """The answer of /examples."""

    examples: list[ExampleDocument]
    similar: bool = Field(description="Whether /similar has anything to search.")
    rules: str = Field(description="Options of /classify that tell the unsure apart; empty without a calibration.")


class NeighbourDocument(ExampleDocument):
    """A training photograph, and the cosine of both embeddings."""

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
    page = html_page(files("mpfgvc.deploy").joinpath("demo.html").read_text("utf-8"))

    @app.get("/", include_in_schema=False)
    async def show_page() -> Response:
        return page

    app.include_router(_run_routes(app, content), dependencies=[app.state.token])


def _run_routes(app: FastAPI, content: DemoContent) -> APIRouter:
    routes = APIRouter()
    pictures = lru_cache(maxsize=_KEPT_PICTURES)(lambda number, side: _picture(content, number, side))

    @routes.get("/examples", response_model=ExamplesDocument)
    async def examples() -> Response:
        """Test photographs of the run to try, and their true classes."""
        numbered = enumerate(content.examples, start=len(content.trained))
        found = [{"number": number, "label": content.classes[sample.label]} for number, sample in numbered]
        facts = app.state.service.model.backend.facts
        back_off = "" if facts.taxonomy is None else "&back_off=true"
        rules = "" if facts.calibration is None else f"abstain={MOST_WRONG}{back_off}"
        return json_response({"examples": found, "similar": content.index is not None, "rules": rules})

    @routes.get("/shown/{number}", responses={200: {"content": {"image/jpeg": {}, "image/png": {}}}})
    async def shown(number: int, options: Annotated[ShownOptions, Query()]) -> Response:
        """A photograph of the run, by its number."""
        if not 0 <= number < len(content.photographs):
            raise RefusedError(404, f"there is no photograph {number}")
        side = _SMALL_SIDE if options.small else _SHOWN_SIDE
        picture, kind = await run_in_threadpool(pictures, number, side)
        return Response(picture, media_type=kind, headers={"Cache-Control": "private, max-age=3600"})

    @routes.post("/similar", response_model=SimilarDocument, openapi_extra=UPLOAD)
    async def similar(request: Request, options: Annotated[SimilarOptions, Query()]) -> Response:
        """The training photographs that look most like a photograph to the model."""
        service = app.state.service
        embedding = await service.answer(request, lambda photograph, _: service.model.embed(photograph))
        return json_response({"nearest": content.nearest(embedding, options.top)})

    return routes


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
