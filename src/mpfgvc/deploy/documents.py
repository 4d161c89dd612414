"""The documents that the server sends, and the options that shape them.

The models describe the documents in the OpenAPI page; the functions make them.
"""

import base64
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from mpfgvc.deploy.desk import Outcome, Unreadable
from mpfgvc.inference.answering import Answering, AnswerRules
from mpfgvc.inference.predictor import PhotoOutput

if TYPE_CHECKING:
    from mpfgvc.inference.explain import Explanation

MOST_VIEW = 1024


class NoOptions(BaseModel):
    """A request without options; any is refused."""

    model_config = ConfigDict(extra="forbid")


class ClassifyOptions(NoOptions):
    """The options of /classify."""

    top: int = Field(5, ge=1, le=1000, description="Guesses for each photograph, best first.")
    set: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Adds the classes that hold the right one in this share of photographs, such as 0.9.",
    )
    abstain: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="The answer is null where more than this share of such answers would be wrong.",
    )
    back_off: bool = Field(
        False, description="With abstain: a group of the taxonomy, such as a genus, where that is sure."
    )
    within: list[str] = Field(
        [], max_length=1000, description="Only these classes, or the classes of these groups."
    )

    @property
    def rules(self) -> AnswerRules:
        """The rules that these options ask for. Raises ConfigError."""
        return AnswerRules(
            abstain=self.abstain, back_off=self.back_off, set=self.set, within=tuple(self.within)
        )


class ExplainOptions(NoOptions):
    """The options of /explain."""

    top: int = Field(5, ge=1, le=1000, description="Guesses, best first.")
    format: Literal["json", "png"] = Field("json", description="A document, or a picture for people.")
    view: int = Field(
        0,
        ge=0,
        le=MOST_VIEW,
        description="Adds what the model sees as a JPEG of at most so many pixels a side; 0 adds nothing.",
    )


class ErrorDocument(BaseModel):
    """Why a request has no answer."""

    error: str


class GuessDocument(BaseModel):
    """A class and how probable the model takes it to be."""

    label: str
    probability: float = Field(ge=0, le=1)


class PhotographDocument(BaseModel):
    """The answer about one photograph, or the reason why there is none."""

    name: str
    answer: str | None = None
    level: str | None = None
    guesses: list[GuessDocument] = []
    set: list[str] | None = None
    error: str | None = None


class ClassifyDocument(BaseModel):
    """The answer of /classify, in the order of the uploads."""

    photographs: list[PhotographDocument]


class EmbeddingDocument(BaseModel):
    """The embedding of one photograph, or the reason why there is none."""

    name: str
    embedding: list[float] | None = None
    error: str | None = None


class EmbedDocument(BaseModel):
    """The answer of /embed; embeddings of models with another digest cannot be compared."""

    digest: str
    photographs: list[EmbeddingDocument]


class EvidenceDocument(BaseModel):
    """Which kept patches speak for the answer (above 0) and for the runner-up (below 0)."""

    answer: str
    against: str
    difference: float
    change: list[float]


class ExplainDocument(BaseModel):
    """The answer of /explain."""

    name: str
    guesses: list[GuessDocument]
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


def classified(outcomes: Sequence[Outcome[PhotoOutput]], answering: Answering, *, top: int) -> Any:
    """The document of /classify."""
    return {"photographs": [_classified(each, answering, top) for each in outcomes]}


def embedded(outcomes: Sequence[Outcome[PhotoOutput]], digest: str) -> Any:
    """The document of /embed."""
    return {"digest": digest, "photographs": [_embedded(each) for each in outcomes]}


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
            "change": explanation.change,
        },
        "view": None if view is None else _data_address(view),
    }


def _classified(outcome: Outcome[PhotoOutput], answering: Answering, top: int) -> Any:
    result = outcome.result
    if isinstance(result, Unreadable):
        return {"name": outcome.name, "error": result.reason}
    (row,) = answering.probabilities(result.logits[None])
    answer = answering.answer(row)
    document: dict[str, Any] = {
        "name": outcome.name,
        "answer": answer.label,
        "level": None if answer.label is None else answer.level,
        "guesses": [vars(guess) for guess in answering.guesses(row, top)],
    }
    if answer.classes is not None:
        document["set"] = list(answer.classes)
    return document


def _embedded(outcome: Outcome[PhotoOutput]) -> Any:
    if isinstance(outcome.result, Unreadable):
        return {"name": outcome.name, "error": outcome.result.reason}
    return {"name": outcome.name, "embedding": outcome.result.embedding.tolist()}


def _data_address(image: Image.Image) -> str:
    content = io.BytesIO()
    image.save(content, format="JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode()
