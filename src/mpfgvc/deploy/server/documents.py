"""What the server sends: JSON documents, refusals, and counters; and the options that shape them.

The models describe the documents in the OpenAPI page. Every refusal has the same body,
`{"error": "one line"}`, whoever makes it: a limit, a wrong option, an unknown path, or a photograph that
cannot be read.
"""

import hashlib
import io
import json
import re
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from PIL import Image
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from mpfgvc.errors import one_line
from mpfgvc.inference.answering import Answering, AnswerRules, Guess
from mpfgvc.inference.predictor import PhotoOutput

if TYPE_CHECKING:
    from mpfgvc.inference.explain import Explanation

Result = TypeVar("Result")
CLIENT_GONE = 499
"""What a request is counted as whose client went away; nobody receives it."""
NO_ADDRESSES = "send the bytes of the photograph: this server fetches nothing from an address"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class NoOptions(BaseModel):
    """A request without options; any is refused."""

    model_config = ConfigDict(extra="forbid")


class ClassifyOptions(NoOptions):
    """The options of /classify."""

    top: int = Field(5, ge=1, le=1000, description="Guesses for each photograph, best first.")
    set: float | None = Field(
        None, gt=0, lt=1, description="Adds the classes that hold the right one in this share of photographs: 0.9."
    )
    abstain: float | None = Field(
        None, gt=0, lt=1, description="The answer is null where more than this share of such answers would be wrong."
    )
    back_off: bool = Field(
        False, description="With abstain: a group of the taxonomy, such as a genus, where that is sure."
    )
    within: list[str] = Field([], max_length=1000, description="Only these classes, or the classes of these groups.")

    @property
    def rules(self) -> AnswerRules:
        """The rules that these options ask for. Raises ConfigError."""
        return AnswerRules(abstain=self.abstain, back_off=self.back_off, set=self.set, within=tuple(self.within))


class ExplainOptions(NoOptions):
    """The options of /explain."""

    top: int = Field(5, ge=1, le=1000, description="Guesses, best first.")
    format: Literal["json", "png"] = Field("json", description="A document, or a picture for people.")
    view: int = Field(
        0,
        ge=0,
        le=1024,
        description="Adds what the model sees as a JPEG of at most so many pixels a side; 0 adds none.",
    )


class ErrorDocument(BaseModel):
    """Why a request has no answer."""

    error: str


class PhotographDocument(BaseModel):
    """What is said about one photograph: an answer and guesses, an embedding, or the error."""

    name: str
    answer: str | None = Field(None, description="A class, or a group of the taxonomy; null is unsure.")
    level: str | None = None
    guesses: list[Guess] = []
    set: list[str] = []
    embedding: list[float] = []
    error: str = ""


class PhotographsDocument(BaseModel):
    """The answer of /classify and /embed, in the order of the uploads; `digest` is that of the weights."""

    digest: str
    photographs: list[PhotographDocument]


class EvidenceDocument(BaseModel):
    """Which kept patches speak for the answer (above 0) and for another class (below 0)."""

    answer: str
    against: str
    difference: float
    change: list[float]


class ExplainDocument(BaseModel):
    """The answer of /explain."""

    name: str
    guesses: list[Guess]
    grid: tuple[int, int]
    kept: list[tuple[int, int]]
    attention: list[list[float]]
    chosen_by: str
    evidence: EvidenceDocument
    view: str | None = None


class ClassesDocument(BaseModel):
    """The answer of /classes."""

    digest: str
    classes: list[str]


class StateDocument(BaseModel):
    """The answer of /health and /ready."""

    status: str


def photographs(
    outcomes: "Sequence[tuple[str, Result | RefusedError]]", digest: str, said: Callable[[Result], dict[str, Any]]
) -> Any:
    """The document of /classify and /embed: what is `said` about each upload, or why there is nothing."""
    rows = [
        {"name": name, **({"error": outcome.line} if isinstance(outcome, RefusedError) else said(outcome))}
        for name, outcome in outcomes
    ]
    return {"digest": digest, "photographs": rows}


def answer_to(output: PhotoOutput, rules: Answering, top: int) -> dict[str, Any]:
    """What /classify says about a photograph."""
    (row,) = rules.probabilities(output.logits[None])
    answer = rules.answer(row)
    return {
        "answer": answer.label,
        "level": None if answer.label is None else answer.level,
        "guesses": [vars(guess) for guess in rules.guesses(row, top)],
        **({} if answer.classes is None else {"set": list(answer.classes)}),
    }


def explained(name: str, explanation: "Explanation", view: Image.Image | None) -> Any:
    """The document of /explain."""
    return {
        "name": name,
        "guesses": [vars(guess) for guess in explanation.guesses],
        "grid": list(explanation.attention.shape),
        "kept": [list(patch) for patch in explanation.kept],
        "attention": [[round(float(value), 6) for value in row] for row in explanation.attention],
        "chosen_by": explanation.selection,
        "evidence": {
            "answer": explanation.answer,
            "against": explanation.against,
            "difference": explanation.difference,
            "change": list(explanation.change),
        },
        "view": None if view is None else _data_address(view),
    }


def _data_address(image: Image.Image) -> str:
    content = io.BytesIO()
    image.save(content, format="JPEG", quality=88)
    return "data:image/jpeg;base64," + b64encode(content.getvalue()).decode()


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


def html_page(page: str) -> Response:
    """A page with one script and one style. Its browser is told to run nothing else and to ask nobody else."""
    script, style = (re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)[0] for tag in ("script", "style"))
    hashes = [b64encode(hashlib.sha256(part.encode()).digest()).decode() for part in (script, style)]
    policy = (
        f"default-src 'none'; script-src 'sha256-{hashes[0]}'; style-src 'sha256-{hashes[1]}'; "
        "img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    headers = {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-cache",
    }
    return Response(page, media_type="text/html", headers=headers)


def add_handlers(app: FastAPI) -> None:
    """Let every refusal leave the app in the same form."""

    @app.exception_handler(RefusedError)
    async def on_refusal(_request: Request, error: RefusedError) -> Response:
        return error.response()

    @app.exception_handler(HTTPException)
    async def on_http_error(_request: Request, error: HTTPException) -> Response:
        return json_response({"error": str(error.detail)}, status=error.status_code, headers=error.headers)

    @app.exception_handler(RequestValidationError)
    async def on_wrong_option(_request: Request, error: RequestValidationError) -> Response:
        """FastAPI's own handler puts the input into its answer, and fails where that is not text."""
        return json_response({"error": "; ".join(map(_option_line, error.errors()))}, status=422)


def _option_line(error: Any) -> str:
    unknown = error["type"] == "extra_forbidden"
    rule = f"is not an option of this request; {NO_ADDRESSES}" if unknown else one_line(ValueError(error["msg"]))
    return f"{str(error['loc'][-1])[:80]}: {rule}"


class Measures:
    """What one server counts, in the text form that Prometheus reads, in a separate registry."""

    def __init__(self) -> None:
        self._registry = own = CollectorRegistry()
        ProcessCollector(registry=own)
        about = "Requests by route and status."
        self._requests = Counter("mpfgvc_requests", about, ["route", "status"], registry=own)
        about = "Seconds from the head of a request to its answer."
        self._seconds = Histogram("mpfgvc_request_seconds", about, ["route"], buckets=_SECONDS, registry=own)
        self._photographs = Counter("mpfgvc_photographs", "Photographs by outcome.", ["outcome"], registry=own)
        about = "Photographs in a batch."
        self._batch = Histogram("mpfgvc_batch_photographs", about, buckets=_SIZES, registry=own)
        self._model = Histogram("mpfgvc_model_seconds", "Seconds of a batch.", buckets=_SECONDS, registry=own)
        about = "Photographs decoding, waiting or computing."
        self._inside = Gauge("mpfgvc_photographs_inside", about, registry=own)

    def request(self, *, route: str, status: int, seconds: float) -> None:
        """Count a request; `route` is that of the table of routes, so that nobody can invent more."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def batch(self, size: int, seconds: float) -> None:
        """Count a batch of the model."""
        self._batch.observe(size)
        self._model.observe(seconds)

    def photographs(self, *, answered: int, unreadable: int) -> None:
        """Count photographs that were answered, and those that could not be read."""
        self._photographs.labels("answered").inc(answered)
        self._photographs.labels("unreadable").inc(unreadable)

    def response(self, *, inside: int) -> Response:
        """All of it; `inside` is the number of photographs in flight now."""
        self._inside.set(inside)
        kind = "text/plain; version=0.0.4; charset=utf-8"
        return Response(generate_latest(self._registry), headers={"Content-Type": kind})
