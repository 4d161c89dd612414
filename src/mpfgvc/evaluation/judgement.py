"""What one source of logits says about each photograph of a batch: its answer, and how sure it is of it.

Four numbers for each photograph, whatever the number of classes, so memory grows with the photographs only.
Probabilities are the softmax of the logits over the temperature of the model, as those of a prediction are.
"""

from collections.abc import Sequence
from typing import NamedTuple

from jaxtyping import Float, Int
from torch import Tensor

from mpfgvc.evaluation.answers import DIGITS, Certainty
from mpfgvc.evaluation.metrics import best_classes, ranks


class Judgement(NamedTuple):
    """About one photograph. Probabilities are in 0..1, with as many digits as a file keeps."""

    answer: int
    """An index of the classes."""
    probability: float
    truth: float
    """The probability of the right class."""
    rank: int
    """Place of the right class, 1 for the best."""


def judgements(
    logits: Float[Tensor, "batch classes"], labels: Int[Tensor, " batch"], *, temperature: float = 1.0
) -> list[Judgement]:
    """One for each photograph, of which `labels` are the right classes."""
    answers = best_classes(logits)
    probabilities = (logits.float() / temperature).softmax(dim=-1)
    columns = (
        answers.tolist(),
        _rounded(probabilities.gather(1, answers[:, None])),
        _rounded(probabilities.gather(1, labels[:, None])),
        (ranks(logits, labels) + 1).tolist(),
    )
    return [Judgement(*row) for row in zip(*columns, strict=True)]


def certainty_of(found: Sequence[Judgement]) -> Certainty:
    """The same by column, without the answers."""
    return Certainty(
        probability=tuple(each.probability for each in found),
        truth=tuple(each.truth for each in found),
        rank=tuple(each.rank for each in found),
    )


def _rounded(values: Float[Tensor, "batch 1"]) -> list[float]:
    return [float(f"{value:.{DIGITS}g}") for value in values[:, 0].tolist()]
