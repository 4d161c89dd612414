"""From images to ranked guesses with a trained model.

    predictor = Predictor.from_pretrained("runs/cub")
    predictor("bird.jpg", top=5)            # a list of Guess, best first
    predictor(["a.jpg", pil_image, array])  # a list of such lists
    predictor.predict_files(paths)          # a stream, for any number of files
    predictor.embed("bird.jpg")             # V, to compare photographs by
    predictor.explain("bird.jpg")           # the kept patches, and what each of them says

    careful = Predictor.from_pretrained("runs/cub", rules=AnswerRules(abstain=0.05))
    careful.answer("bird.jpg").label        # None where the model is unsure

Probabilities are the softmax of one source of logits, over the temperature of its calibration if it has one:
the source that the model answers with (`model.prediction`; the paper's is `fusion`), or the one that
`source` names.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self, get_args, overload

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from PIL.Image import Image
from torch import Tensor

from mpfgvc.data.transforms import eval_transform
from mpfgvc.devices import find_device
from mpfgvc.inference.answering import Answered, Answering, AnswerRules, ModelFacts, prediction_of
from mpfgvc.inference.arguments import refuse_below, refuse_unknown
from mpfgvc.inference.file_stream import FileAnswer, FileStream, Found
from mpfgvc.inference.forward import Compute, Inference
from mpfgvc.inference.guess import Answer, Guess, Prediction
from mpfgvc.inference.image_source import ImageSource, is_one_image, open_image, several_images
from mpfgvc.inference.plain_source import name_of
from mpfgvc.inference.saved_model import SavedModel, load_model
from mpfgvc.model.network import Output
from mpfgvc.terms import Precision, Source

if TYPE_CHECKING:
    from mpfgvc.inference.explain import Explanation


class Predictor:
    """A trained model, ready for images of any size and kind.

    `network`, `classes`, `digest`, `preprocessing` and `transform` are the model's own; `inference` runs it.
    A predictor can be copied, pickled and sent to another process.

    `answering` makes its logits into probabilities and answers, under `rules` (answering.py).

    Raises ConfigError for an unknown source, device or precision, and for rules that the model cannot keep.
    """

    def __init__(
        self,
        saved: SavedModel,
        *,
        device: torch.device | str = "cpu",
        source: Source | None = None,
        precision: Precision = "fp32",
        rules: AnswerRules | None = None,
    ):
        _check_options(source, precision)
        place = torch.device(find_device(str(device)))
        self.network = saved.network.to(place).eval()
        self.inference = Inference(
            network=self.network, compute=Compute(device=place, precision=precision), model=saved.name
        )
        self.preprocessing = saved.preprocessing
        self.transform = eval_transform(saved.preprocessing)
        self.classes, self.digest = self.network.classes, saved.digest
        self.calibration = saved.calibration
        self.source: Source = self.network.prediction if source is None else source
        self.answering = Answering(_facts(saved, self.source), rules)

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path,
        *,
        device: torch.device | str = "auto",
        source: Source | None = None,
        precision: Precision = "fp32",
        rules: AnswerRules | None = None,
    ) -> Self:
        """Read a run folder, a model folder, or a repository of the hub (`hf://user/name[@revision]`).

        `device` auto takes an accelerator if there is one. `precision` is the same on every
        device unless you choose bf16. On a CPU the network is packed for inference
        (packed_linear.py); to train it or to move it, use `load_model`. Raises CheckpointError
        for a model that is missing or damaged, ConfigError for a setting that is not available.
        """
        _check_options(source, precision)
        found = find_device(str(device))
        return cls.packed(load_model(model), device=found, source=source, precision=precision, rules=rules)

    @classmethod
    def packed(
        cls,
        saved: SavedModel,
        *,
        device: torch.device | str = "cpu",
        source: Source | None = None,
        precision: Precision = "fp32",
        rules: AnswerRules | None = None,
    ) -> Self:
        """The predictor of a model in memory; on a CPU its network is packed, in place."""
        if torch.device(device).type == "cpu":
            saved.network.image_encoder.tower.pack(torch.bfloat16 if precision == "bf16" else torch.float32)
        return cls(saved, device=device, source=source, precision=precision, rules=rules)

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return self.inference.compute.device

    @property
    def precision(self) -> Precision:
        """The precision that the network computes in."""
        return self.inference.compute.precision

    @overload
    def __call__(self, images: ImageSource, *, top: int = 5) -> list[Guess]: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, images: Iterable[ImageSource], *, top: int = 5) -> list[list[Guess]]: ...

    def __call__(
        self, images: ImageSource | Iterable[ImageSource], *, top: int = 5
    ) -> list[Guess] | list[list[Guess]]:
        """The `top` best guesses for an image, or for each of several; all of several go in one batch.

        image_source.py says what an image may be. Raises ConfigError for `top`, DataError for what is
        not an image or cannot be read.
        """
        refuse_below(1, "top", top)
        if is_one_image(images):
            return self([images], top=top)[0]  # type: ignore[list-item]
        sources = several_images(images)  # type: ignore[arg-type]
        if not sources:
            return []
        pixels = torch.stack([self.transform(self.open(source)) for source in sources])
        return self.rank(self.inference(pixels, [name_of(*each) for each in enumerate(sources)]), top)

    def predict_files(
        self, paths: Iterable[str | Path], *, top: int = 5, batch_size: int = 32, workers: int | None = None
    ) -> Iterator[Prediction]:
        """A prediction for each file, in the order of `paths`, made while the results are consumed.

        Memory does not grow with the number of files (file_stream.py). A file that cannot be read has no
        guesses but a `failure`. Raises ConfigError or DataError for the arguments at once, and DataError
        later for what is not a path in the iterable.
        """
        stream = self.answerer(top=top, batch_size=batch_size, workers=workers)
        return (prediction_of(each.path, each.answer, each.failure) for each in stream.answers(paths))

    def answerer(
        self, *, top: int = 5, batch_size: int = 32, workers: int | None = None
    ) -> FileStream[Answered]:
        """What answers files, or photographs from elsewhere, one after the other (file_stream.py)."""
        refuse_below(1, "top", top)

        def answered(images: Tensor, names: Sequence[str]) -> list[Answered]:
            return self.answering.answered(self._logits(self.inference(images, names)), top)

        return self._stream("predict_files", answered, batch_size, workers)

    @overload
    def answer(self, images: ImageSource) -> Answer: ...  # type: ignore[overload-overlap]
    @overload
    def answer(self, images: Iterable[ImageSource]) -> list[Answer]: ...

    def answer(self, images: ImageSource | Iterable[ImageSource]) -> Answer | list[Answer]:
        """The answer to an image, or to each of several, under the rules of this predictor.

        Without rules it is the best guess. Raises DataError as a prediction does.
        """
        if is_one_image(images):
            return self.answer([images])[0]  # type: ignore[list-item]
        sources = several_images(images)  # type: ignore[arg-type]
        if not sources:
            return []
        pixels = torch.stack([self.transform(self.open(source)) for source in sources])
        output = self.inference(pixels, [name_of(*each) for each in enumerate(sources)])
        return [self.answering.answer(row) for row in self.answering.probabilities(self._logits(output))]

    def embed(self, images: ImageSource | Iterable[ImageSource]) -> Float[Tensor, "..."]:
        """The embedding V of an image, (width,), or of each of several, (images, width); float32, on the CPU.

        Its cosine says how alike two photographs are to the model. Raises DataError as a prediction does.
        """
        if is_one_image(images):
            return self.embed([images])[0]  # type: ignore[list-item]
        sources = several_images(images)  # type: ignore[arg-type]
        if not sources:
            return torch.zeros(0, self.network.image_encoder.tower.width)
        pixels = torch.stack([self.transform(self.open(source)) for source in sources])
        return self._embeddings(pixels, [name_of(*each) for each in enumerate(sources)])

    def embed_files(
        self, paths: Iterable[str | Path], *, batch_size: int = 32, workers: int | None = None
    ) -> Iterator[FileAnswer[Tensor]]:
        """The embedding of each file, as `predict_files` streams predictions: `answer` is V, (width,)."""
        return self.embedder(batch_size=batch_size, workers=workers).answers(paths)

    def embedder(self, *, batch_size: int = 32, workers: int | None = None) -> FileStream[Tensor]:
        """What embeds files, or the photographs of a dataset, one after the other (file_stream.py)."""

        def rows(images: Tensor, names: Sequence[str]) -> list[Tensor]:
            return list(self._embeddings(images, names))

        return self._stream("embed_files", rows, batch_size, workers)

    def explain(self, image: ImageSource, *, top: int = 3) -> "Explanation":
        """What the prediction for an image rests on (explain.py). Raises what a prediction raises."""
        from mpfgvc.inference.explain import explain

        return explain(self, image, top=top)

    def rank(self, output: Output, top: int) -> list[list[Guess]]:
        """The `top` best guesses for each image that an output of the network is about."""
        rows = self.answering.probabilities(self._logits(output))
        return [self.answering.guesses(row, top) for row in rows]

    def open(self, image: ImageSource) -> Image:
        """The image, RGB and upright, decoded as every prediction does it. Raises DataError."""
        return open_image(image, at_least=self.transform.at_least)

    def _logits(self, output: Output) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = getattr(output, self.source).float().cpu().numpy()
        return logits

    def _embeddings(self, images: Tensor, names: Sequence[str]) -> Float[Tensor, "batch width"]:
        return self.inference(images, names).embedding.float().cpu()

    def _stream(
        self,
        name: str,
        run: Callable[[Tensor, Sequence[str]], Sequence[Found]],
        batch_size: int,
        workers: int | None,
    ) -> FileStream[Found]:
        return FileStream(
            name=name,
            transform=self.transform,
            run=run,
            on_cpu=self.device.type == "cpu",
            batch_size=batch_size,
            workers=workers,
        )


def _facts(saved: SavedModel, source: Source) -> ModelFacts:
    return ModelFacts(
        name=saved.name,
        classes=saved.network.classes,
        calibration=None if saved.calibration is None else saved.calibration.of(source),
        taxonomy=saved.taxonomy,
    )


def _check_options(source: str | None, precision: str) -> None:
    if source is not None:
        refuse_unknown("source", source, get_args(Source))
    refuse_unknown("precision", precision, get_args(Precision))
