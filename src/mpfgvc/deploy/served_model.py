"""What the server asks of a model: the seam between the routes and whatever computes. No torch.

`predictor_model.py` fills it with a Predictor, `runtime_model.py` with an exported model. One that has no
embedding gives None for it, and one that cannot explain is only a `ServedModel`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mpfgvc.inference.answering import ModelFacts
from mpfgvc.inference.guess import Guess

Pixels = NDArray[np.floating] | NDArray[np.uint8]
"""A prepared photograph, as its model wants it: all of one shape and type."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the model says about one photograph."""

    logits: NDArray[np.float32]
    """Of each class, in the order of `classes`."""
    embedding: NDArray[np.float32] | None = None
    """V, (width,)."""


@dataclass(frozen=True, kw_only=True)
class PatchEvidence:
    """Which kept patches speak for the answer against the runner-up (inference/evidence.py)."""

    answer: str
    against: str
    difference: float
    """Logit of the answer minus that of the runner-up."""
    change: tuple[float, ...]
    """How far the difference falls without each patch, in the order of `kept`."""


@dataclass(frozen=True, kw_only=True)
class Explained:
    """What an answer rests on."""

    guesses: tuple[Guess, ...]
    kept: tuple[tuple[int, int], ...]
    """(row, column) of the kept patches, most attended first."""
    attention: NDArray[np.float32]
    """Share of each patch in the attention of the class token, (rows, columns)."""
    chosen_by: str
    """What the patches were chosen by, such as attention."""
    evidence: PatchEvidence | None
    """None for a model that cannot tell."""


class ServedModel(Protocol):
    """A model that answers photographs. `read` and `prepare` may be called from several threads at a time."""

    @property
    def classes(self) -> Sequence[str]:
        """The names of the classes."""

    @property
    def facts(self) -> ModelFacts:
        """What probabilities and answers under rules need to know of it."""

    @property
    def digest(self) -> str:
        """SHA-256 of the weights, "" if unknown."""

    @property
    def at_least(self) -> tuple[int, int]:
        """(height, width) that a photograph must be decoded at."""

    def prepare(self, photograph: Image.Image) -> Pixels:
        """The numbers that the model sees of an upright RGB photograph."""

    def answers(self, images: Sequence[Pixels]) -> list[Answer]:
        """An answer for each image, in order. Raises MpfgvcError for a damaged model."""


@runtime_checkable
class ExplainingModel(ServedModel, Protocol):
    """A model that can say what an answer rests on."""

    def explain(self, photograph: Image.Image, *, top: int) -> Explained:
        """The `top` best guesses for a photograph, and what they rest on."""

    def view(self, photograph: Image.Image) -> Image.Image:
        """The part of a photograph that the model sees, in the photograph's own resolution."""

    def picture(self, photograph: Image.Image, *, title: str, top: int) -> Image.Image:
        """The explanation as a picture for people."""
