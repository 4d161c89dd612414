"""What a job computes about each photograph, with which model and under which rules. No torch."""

import hashlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from mpfgvc.errors import CheckpointError
from mpfgvc.files import file_digest, stored_digest
from mpfgvc.inference.answering import Answering, AnswerRules, ModelFacts
from mpfgvc.inference.arguments import refuse_below
from mpfgvc.inference.model_description import DESCRIPTION, FILES, WEIGHTS, ModelDescription
from mpfgvc.inference.model_source import HUB, find_model_folder
from mpfgvc.terms import Precision, Source

What = Literal["guesses", "embeddings"]


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is computed. `model` is where the model is, `digest` what it is, whatever its place.

    `notes` are lines for people about what the rules cannot promise.
    """

    what: What
    model: str
    digest: str
    source: Source
    precision: Precision = "fp32"
    top: int = 5
    rules: AnswerRules = field(default_factory=AnswerRules)
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        what: What,
        model: str,
        *,
        source: Source | None = None,
        precision: Precision = "fp32",
        top: int = 5,
        rules: AnswerRules | None = None,
    ) -> Self:
        """The task for a run folder, a model folder or a repository of the hub.

        Raises CheckpointError for a model that is missing, ConfigError for rules that it cannot keep.
        """
        refuse_below(1, "top", top)
        folder = find_model_folder(model, description=DESCRIPTION, files=FILES)
        description = ModelDescription.read(folder / DESCRIPTION)
        facts = ModelFacts(
            name=str(folder),
            classes=description.classes,
            prediction=description.model.prediction,
            calibration=description.calibration,
            taxonomy=description.taxonomy,
        )
        answering = Answering(facts, rules, source=source)
        return cls(
            what=what,
            model=model if model.startswith(HUB) else str(Path(model).absolute()),
            digest=_digest(folder),
            source=answering.source,
            precision=precision,
            top=top,
            rules=answering.rules,
            notes=answering.notes,
        )

    def refuse_other_model(self) -> None:
        """Raise CheckpointError if the model that is there, on this machine, is another one."""
        if _digest(find_model_folder(self.model, description=DESCRIPTION, files=FILES)) != self.digest:
            rule = "is not the model that the job began with"
            raise CheckpointError(f"{self.model} {rule}; it was changed, or differs between machines")

    def to_dict(self) -> dict[str, Any]:
        """What must be the same when a job goes on."""
        guesses = {"source": self.source, "top": self.top, **asdict(self.rules)}
        guesses["within"] = list(self.rules.within)
        same = {"what": self.what, "model": self.digest, "precision": self.precision}
        return same | (guesses if self.what == "guesses" else {})


def _digest(folder: Path) -> str:
    """Of the weights and of the description, which holds class names and calibration."""
    weights = folder / WEIGHTS
    try:
        parts = [stored_digest(weights) or file_digest(weights), file_digest(folder / DESCRIPTION)]
    except OSError as error:
        raise CheckpointError(f"cannot read the model in {folder}: {error.strerror}; restore it") from None
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
