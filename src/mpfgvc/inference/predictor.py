"""From images to ranked guesses, by a trained model or an exported one. No torch is imported for the latter.

    predictor = Predictor.from_pretrained("runs/cub")       # or "cub.onnx"
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

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, get_args, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mpfgvc.data.preprocessing import view_box
from mpfgvc.data.samples import Photograph
from mpfgvc.errors import DataError, check_at_least, check_known
from mpfgvc.inference.answering import Answer, Answering, AnswerRules, Guess, Prediction
from mpfgvc.inference.backends import Backend, Pixels, open_backend
from mpfgvc.inference.sources import as_images, as_photographs, name_of, open_image
from mpfgvc.processes import core_count
from mpfgvc.terms import Engine, Precision, Source

if TYPE_CHECKING:
    import torch

    from mpfgvc.inference.explain import Explanation
    from mpfgvc.inference.forward import Inference
    from mpfgvc.inference.saved_model import SavedModel
    from mpfgvc.inference.sources import ImageSource

BATCHES_AHEAD = 4
"""Batches that are read while an accelerator computes."""
_Reading = list[tuple[Photograph, "Future[Pixels]"]]


@dataclass(frozen=True, kw_only=True)
class PhotoOutput:
    """What the model says about one photograph."""

    logits: NDArray[np.float32]
    """Of the predictor's source, (classes,)."""
    embedding: NDArray[np.float32]
    """V, (width,)."""


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """The embedding V of a photograph, (width,); None, and why, for one that cannot be read."""

    photograph: Photograph
    embedding: NDArray[np.float32] | None = None
    failure: str = ""


class Predictor:
    """A model, ready for images of any size and kind.

    `backend` computes; `classes`, `digest` and `preprocessing` are the model's own. `answering` makes its
    logits into probabilities and answers, under `rules` (answering.py). The predictor of a trained model can
    be copied, pickled and sent to another process.

    Raises ConfigError for an unknown source, and for rules that the model cannot keep.
    """

    def __init__(self, backend: Backend, *, source: Source | None = None, rules: AnswerRules | None = None) -> None:
        if source is not None:
            check_known("source", source, get_args(Source))
        self.backend, self.preprocessing = backend, backend.preprocessing
        self.classes, self.digest = backend.facts.classes, backend.facts.digest
        self.answering = Answering(backend.facts, rules, source=source)
        self.source: Source = self.answering.source

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path,
        *,
        device: torch.device | str = "auto",
        source: Source | None = None,
        precision: Precision = "fp32",
        engine: Engine | None = None,
        threads: int | None = None,
        rules: AnswerRules | None = None,
    ) -> Self:
        """Read a run folder, a model folder, a repository of the hub (`hf://user/name[@revision]`), or a
        `.onnx` file of `mpfgvc export`.

        `device` auto takes an accelerator if there is one. `precision` is the same on every device unless you
        choose bf16. On a CPU the network is packed for inference; to train it or to move it, use
        `load_model`. `engine` (onnxruntime) and `threads` (one per core) are for a `.onnx` file. Raises
        CheckpointError for a model that is missing or damaged, ConfigError for a setting that is not
        available, or not for this kind of model.
        """
        if source is not None:
            check_known("source", source, get_args(Source))
        backend = open_backend(model, engine=engine, threads=threads, device=str(device), precision=precision)
        return cls(backend, source=source, rules=rules)

    @classmethod
    def of(
        cls,
        saved: SavedModel,
        *,
        device: torch.device | str = "cpu",
        source: Source | None = None,
        precision: Precision = "fp32",
        rules: AnswerRules | None = None,
        packed: bool = True,
    ) -> Self:
        """The predictor of a model in memory, whose network it takes; on a CPU it is packed, in place."""
        from mpfgvc.inference.forward import TorchBackend

        backend = TorchBackend(saved, device=device, precision=precision, packed=packed)
        return cls(backend, source=source, rules=rules)

    @property
    def inference(self) -> Inference:
        """How the network of a trained model is run. Raises ConfigError for an exported model."""
        return self.backend.trained().inference

    @overload
    def __call__(self, images: ImageSource, *, top: int = 5) -> list[Guess]: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, images: Iterable[ImageSource], *, top: int = 5) -> list[list[Guess]]: ...

    def __call__(self, images: ImageSource | Iterable[ImageSource], *, top: int = 5) -> list[Guess] | list[list[Guess]]:
        """The `top` best guesses for an image, or for each of several; all of several go in one batch.

        sources.py says what an image may be. Raises ConfigError for `top`, DataError for what is not an
        image or cannot be read.
        """
        check_at_least(1, "top", top)
        answers: list[Guess] | list[list[Guess]] = self._answered(
            images, lambda output: self.answering.guesses(self._probabilities(output), top)
        )
        return answers

    @overload
    def answer(self, images: ImageSource) -> Answer: ...  # type: ignore[overload-overlap]
    @overload
    def answer(self, images: Iterable[ImageSource]) -> list[Answer]: ...

    def answer(self, images: ImageSource | Iterable[ImageSource]) -> Answer | list[Answer]:
        """The answer to an image, or to each of several, under the rules of this predictor.

        Without rules it is the best guess. Raises DataError as a prediction does.
        """
        answers: Answer | list[Answer] = self._answered(
            images, lambda output: self.answering.answer(self._probabilities(output))
        )
        return answers

    def embed(self, images: ImageSource | Iterable[ImageSource]) -> NDArray[np.float32]:
        """The embedding V of an image, (width,), or of each of several, (images, width).

        Its cosine says how alike two photographs are to the model. Raises DataError as a prediction does.
        """
        rows = self._answered(images, lambda output: output.embedding)
        if isinstance(rows, np.ndarray):
            return rows
        return np.stack(rows) if rows else np.zeros((0, self.backend.width), dtype=np.float32)

    def predict_files(
        self,
        paths: Iterable[str | Path | Photograph],
        *,
        top: int = 5,
        batch_size: int = 32,
        workers: int | None = None,
    ) -> Iterator[Prediction]:
        """A prediction for each file, in the order of `paths`, made while the results are consumed.

        Memory does not grow with the number of files; `workers` threads decode them. A file that
        cannot be read has no guesses but a `failure`. Raises ConfigError or DataError for the arguments at
        once, and DataError later for what is not a path in the iterable.
        """
        check_at_least(1, "top", top)
        outputs = self._stream(paths, batch_size, workers, method="predict_files")
        return (
            Prediction(path=photo.path, guesses=(), failure=str(output))
            if isinstance(output, DataError)
            else self.answering.prediction(photo.path, output.logits, top)
            for photo, output in outputs
        )

    def embed_files(
        self, paths: Iterable[str | Path | Photograph], *, batch_size: int = 32, workers: int | None = None
    ) -> Iterator[Embedded]:
        """The embedding of each file, as `predict_files` streams predictions."""
        outputs = self._stream(paths, batch_size, workers, method="embed_files")
        return (
            Embedded(photograph=photo, failure=str(output))
            if isinstance(output, DataError)
            else Embedded(photograph=photo, embedding=output.embedding)
            for photo, output in outputs
        )

    def explain(self, image: ImageSource, *, top: int = 3, against: str | None = None) -> Explanation:
        """What the prediction for an image rests on, compared with the class `against` or the runner-up (explain.py).

        Raises what a prediction raises, and ConfigError for an exported model, which has no attention to show.
        """
        self.backend.trained()
        from mpfgvc.inference.explain import explain

        return explain(self, image, top=top, against=against)

    def open(self, image: ImageSource) -> Image.Image:
        """The image, RGB and upright, decoded as every prediction does it. Raises DataError."""
        return open_image(image, at_least=self.preprocessing.at_least)

    def prepare(self, photograph: Image.Image) -> Pixels:
        """The numbers that the model sees of an upright RGB photograph, from any thread."""
        return self.backend.prepare(photograph)

    def view(self, photograph: Image.Image) -> Image.Image:
        """The part of a photograph that the model sees, in the shape in which it sees it."""
        part = photograph.crop(view_box((photograph.height, photograph.width), self.preprocessing))
        height, width = self.preprocessing.image_size
        factor = max(1.0, min(part.height / height, part.width / width))
        return part.resize((round(width * factor), round(height * factor)), Image.Resampling.BICUBIC)

    def run(self, pixels: Sequence[Pixels], names: Sequence[str] | None = None) -> list[PhotoOutput]:
        """What the model says about each of some prepared photographs, which errors call by `names`.

        Raises CheckpointError that names the photograph where a logit is not finite.
        """
        if not pixels:
            return []
        batch: Pixels = np.stack(pixels)  # type: ignore[assignment]  # all of one type
        outputs = self.backend.run(batch, names or ["a photograph"] * len(pixels))
        logits = getattr(outputs, self.source)
        return [
            PhotoOutput(logits=row, embedding=embedding)
            for row, embedding in zip(logits, outputs.embedding, strict=True)
        ]

    def _probabilities(self, output: PhotoOutput) -> NDArray[np.float64]:
        row: NDArray[np.float64] = self.answering.probabilities(output.logits[None])[0]
        return row

    def _answered(self, images: ImageSource | Iterable[ImageSource], answer: Callable[[PhotoOutput], object]) -> Any:
        """What `answer` makes of an image, or of each of several."""
        sources, is_one = as_images(images)
        pixels = [self.prepare(self.open(source)) for source in sources]
        names = [name_of(*pair) for pair in enumerate(sources)]
        answers = [answer(output) for output in self.run(pixels, names)]
        return answers[0] if is_one else answers

    def _stream(
        self, paths: Iterable[str | Path | Photograph], batch_size: int, workers: int | None, *, method: str
    ) -> Iterator[tuple[Photograph, PhotoOutput | DataError]]:
        check_at_least(1, "batch_size", batch_size)
        if workers is not None:
            check_at_least(0, "workers", workers)
        return self._outputs(as_photographs(paths, method), batch_size, workers)

    def _outputs(
        self, photographs: Iterator[Photograph], batch_size: int, workers: int | None
    ) -> Iterator[tuple[Photograph, PhotoOutput | DataError]]:
        """What the model says about each photograph, or why it cannot be read.

        Memory does not grow with their number. Threads decode; Pillow lets them run beside each other. Beside
        an accelerator they are a few batches ahead of it. On a CPU they read a batch and then leave the cores
        to the model, which would wait at every step for a thread pushed aside.
        """
        pool = ThreadPoolExecutor(max(1, core_count() if workers is None else workers))
        try:
            for batch in self._read_ahead(photographs, pool, batch_size):
                read = [(photograph, _result(pixels)) for photograph, pixels in batch]
                ready = [(photograph, found) for photograph, found in read if not isinstance(found, DataError)]
                names = [str(photograph.path) for photograph, _ in ready]
                outputs = iter(self.run([pixels for _, pixels in ready], names))
                for photograph, found in read:
                    yield photograph, found if isinstance(found, DataError) else next(outputs)
        finally:
            pool.shutdown(cancel_futures=True)

    def _read_ahead(
        self, photographs: Iterator[Photograph], pool: ThreadPoolExecutor, batch_size: int
    ) -> Iterator[_Reading]:
        """Batches of photographs that are being read."""

        def read(photograph: Photograph) -> Pixels:
            return self.prepare(photograph.read(at_least=self.preprocessing.at_least))

        ahead = 0 if self.backend.on_cpu else BATCHES_AHEAD
        started: deque[_Reading] = deque()
        while batch := list(islice(photographs, batch_size)):
            started.append([(photograph, pool.submit(read, photograph)) for photograph in batch])
            if len(started) > ahead:
                yield started.popleft()
        yield from started


def _result(pixels: Future[Pixels]) -> Pixels | DataError:
    try:
        return pixels.result()
    except DataError as error:
        return error
