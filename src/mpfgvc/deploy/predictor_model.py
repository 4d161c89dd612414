"""A Predictor as the server's model (served_model.py)."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

from mpfgvc.data.preprocessing import prepare, view_box
from mpfgvc.deploy.served_model import Answer, Explained, PatchEvidence, Pixels
from mpfgvc.inference.answering import ModelFacts
from mpfgvc.inference.explanation_picture import draw
from mpfgvc.inference.predictor import Predictor


class PredictorModel:
    """Answers as `mpfgvc predict` does: photographs are decoded and prepared by the same functions."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    @property
    def classes(self) -> Sequence[str]:
        """The names of the classes."""
        return self._predictor.classes

    @property
    def facts(self) -> ModelFacts:
        """What probabilities and answers under rules need to know of the model."""
        return self._predictor.answering.facts

    @property
    def digest(self) -> str:
        """SHA-256 of the weights, "" if unknown."""
        return self._predictor.digest

    @property
    def at_least(self) -> tuple[int, int]:
        """(height, width) that a photograph must be decoded at."""
        return self._predictor.transform.at_least

    def prepare(self, photograph: Image.Image) -> Pixels:
        """The numbers that the network sees."""
        return prepare(photograph, self._predictor.preprocessing)

    def answers(self, images: Sequence[Pixels]) -> list[Answer]:
        """An answer for each image. Raises CheckpointError if an output is not finite."""
        names = ["a photograph"] * len(images)
        output = self._predictor.inference(torch.from_numpy(np.stack(images)), names)
        logits = getattr(output, self._predictor.source).float().cpu().numpy()
        embeddings = output.embedding.float().cpu().numpy()
        return [
            Answer(logits=row, embedding=embedding) for row, embedding in zip(logits, embeddings, strict=True)
        ]

    def explain(self, photograph: Image.Image, *, top: int) -> Explained:
        """The guesses, the kept patches, and what they say about the answer and the runner-up."""
        explanation = self._predictor.explain(photograph, top=top)
        return Explained(
            guesses=tuple(explanation.guesses),
            kept=tuple(explanation.kept),
            attention=explanation.attention,
            chosen_by=explanation.selection,
            evidence=PatchEvidence(
                answer=explanation.answer,
                against=explanation.against,
                difference=explanation.difference,
                change=tuple(explanation.change),
            ),
        )

    def view(self, photograph: Image.Image) -> Image.Image:
        """The part of a photograph that the network sees, in the shape in which it sees it."""
        preprocessing = self._predictor.preprocessing
        part = photograph.crop(view_box((photograph.height, photograph.width), preprocessing))
        height, width = preprocessing.image_size
        factor = max(1.0, min(part.height / height, part.width / width))
        return part.resize((round(width * factor), round(height * factor)), Image.Resampling.BICUBIC)

    def picture(self, photograph: Image.Image, *, title: str, top: int) -> Image.Image:
        """The picture of `mpfgvc explain`."""
        return draw([(title, self._predictor.explain(photograph, top=top))])


def warm_up(model: PredictorModel) -> None:
    """Compute once, so that the first request is as fast as the others, and a damaged model is found now."""
    model.answers([model.prepare(Image.new("RGB", (64, 64), "gray"))])
