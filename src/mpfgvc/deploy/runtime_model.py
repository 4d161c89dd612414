"""An exported model as the server's model (served_model.py); no torch.

It classifies and embeds. It cannot explain: its graph gives the kept patches, but no attention to draw.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from mpfgvc.data.preprocessing import prepared_pixels
from mpfgvc.deploy.runtime import Runtime
from mpfgvc.deploy.served_model import Answer, Pixels
from mpfgvc.inference.answering import ModelFacts


class RuntimeModel:
    """Answers as `mpfgvc predict model.onnx` does."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    @property
    def classes(self) -> Sequence[str]:
        """The names of the classes."""
        return self._runtime.classes

    @property
    def facts(self) -> ModelFacts:
        """What probabilities and answers under rules need to know of the model."""
        return self._runtime.answering.facts

    @property
    def digest(self) -> str:
        """SHA-256 of the weights that were exported."""
        return self._runtime.description.model

    @property
    def at_least(self) -> tuple[int, int]:
        """(height, width) that a photograph must be decoded at."""
        return self._runtime.preprocessing.at_least

    def prepare(self, photograph: Image.Image) -> Pixels:
        """The pixels that the graph sees, uint8 (height, width, 3)."""
        return prepared_pixels(photograph, self._runtime.preprocessing)

    def answers(self, images: Sequence[Pixels]) -> list[Answer]:
        """An answer for each image. Raises CheckpointError if an output is not finite."""
        outputs = self._runtime.run(np.stack(images), ["a photograph"] * len(images))
        rows = zip(outputs[self._runtime.source], outputs["embedding"], strict=True)
        return [Answer(logits=logits, embedding=embedding) for logits, embedding in rows]


def warm_up(model: RuntimeModel) -> None:
    """Compute once, so that the first request is as fast as the others, and a damaged model is found now."""
    model.answers([model.prepare(Image.new("RGB", (64, 64), "gray"))])
