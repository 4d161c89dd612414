"""An exported model at work, without torch: photographs in, ranked guesses out.

    runtime = Runtime("cub.onnx")
    runtime.predict("bird.jpg", top=5)      # a list of Guess, best first
    runtime.predict(["a.jpg", pil_image])   # a list of such lists
    runtime.predict_files(paths)            # a stream, for any number of files
    runtime.embed("bird.jpg")               # V, to compare photographs by

The same as `Predictor`, by the same code up to the pixels: photographs are decoded, turned upright, scaled
and cropped as in evaluation; the graph normalises them. Distribution mpfgvc-runtime is this file and what it
imports (runtime/).
"""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import get_args, overload

import numpy as np
from numpy.typing import NDArray

from mpfgvc.data.images import read_image
from mpfgvc.data.preprocessing import prepared_pixels
from mpfgvc.deploy.description import KEY, ExportedDescription
from mpfgvc.deploy.engines import Outputs, open_session
from mpfgvc.deploy.onnx_file import read_metadata
from mpfgvc.errors import CheckpointError, DataError
from mpfgvc.inference.answering import Answered, Answering, AnswerRules, ModelFacts, prediction_of
from mpfgvc.inference.arguments import refuse_below, refuse_unknown
from mpfgvc.inference.guess import Answer, Guess, Prediction
from mpfgvc.inference.plain_source import (
    PlainImage,
    is_one_plain_image,
    name_of,
    open_plain_image,
    several_of,
)
from mpfgvc.launcher import core_count
from mpfgvc.terms import Engine, Source

Pixels = NDArray[np.uint8]


class Runtime:
    """An exported model, ready for photographs of any size and kind.

    `classes`, `preprocessing` and `description` are the file's own. `source` None: what the model answers
    with. `threads` None: OMP_NUM_THREADS, else one per core. `answering` makes logits into answers under
    `rules` (answering.py). Raises CheckpointError for a file that is missing, cut, or not one of
    `mpfgvc export`, ConfigError for an unknown or missing engine, and for rules that it cannot keep.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        engine: Engine = "onnxruntime",
        source: Source | None = None,
        threads: int | None = None,
        rules: AnswerRules | None = None,
    ):
        refuse_unknown("engine", engine, get_args(Engine))
        if source is not None:
            refuse_unknown("source", source, get_args(Source))
        if threads is not None:
            refuse_below(1, "threads", threads)
        self.path = Path(model)
        self.description = read_description(self.path)
        self.classes, self.preprocessing = self.description.classes, self.description.preprocessing
        self.source: Source = self.description.prediction if source is None else source
        self.engine: Engine = engine
        self.answering = Answering(facts_of(self.description, self.source, str(self.path)), rules)
        self._session = open_session(self.path, engine=engine, threads=threads)

    @overload
    def predict(self, images: PlainImage, top: int = 5) -> list[Guess]: ...  # type: ignore[overload-overlap]
    @overload
    def predict(self, images: Iterable[PlainImage], top: int = 5) -> list[list[Guess]]: ...

    def predict(
        self, images: PlainImage | Iterable[PlainImage], top: int = 5
    ) -> list[Guess] | list[list[Guess]]:
        """The `top` best guesses for an image, or for each of several.

        plain_source.py says what an image may be. Raises ConfigError for `top`, DataError for what is not an
        image or cannot be read.
        """
        refuse_below(1, "top", top)
        if is_one_plain_image(images):
            return self.predict([images], top)[0]  # type: ignore[list-item]
        several = several_of(images)  # type: ignore[arg-type]
        return self.rank(self.outputs(several), top) if several else []

    @overload
    def answer(self, images: PlainImage) -> Answer: ...  # type: ignore[overload-overlap]
    @overload
    def answer(self, images: Iterable[PlainImage]) -> list[Answer]: ...

    def answer(self, images: PlainImage | Iterable[PlainImage]) -> Answer | list[Answer]:
        """The answer to an image, or to each of several, under the rules; without rules the best guess."""
        if is_one_plain_image(images):
            return self.answer([images])[0]  # type: ignore[list-item]
        several = several_of(images)  # type: ignore[arg-type]
        rows = self.answering.probabilities(self.outputs(several)[self.source]) if several else ()
        return [self.answering.answer(row) for row in rows]

    def predict_files(
        self, paths: Iterable[str | Path], *, top: int = 5, batch_size: int = 32
    ) -> Iterator[Prediction]:
        """A prediction for each file, in the order of `paths`, made while the results are consumed.

        `batch_size` files at a time are decoded, on all cores. A file that cannot be read has no guesses but
        a `failure`. Raises ConfigError for the two numbers.
        """
        refuse_below(1, "top", top)
        refuse_below(1, "batch_size", batch_size)
        return self._stream(iter(paths), top, batch_size)

    def embed(self, images: PlainImage | Iterable[PlainImage]) -> NDArray[np.float32]:
        """The embedding V of an image, (width,), or of each of several, (images, width)."""
        if is_one_plain_image(images):
            row: NDArray[np.float32] = self.embed([images])[0]  # type: ignore[list-item]
            return row
        return self.outputs(several_of(images))["embedding"]  # type: ignore[arg-type]

    def outputs(self, images: Sequence[PlainImage]) -> Outputs:
        """All that the graph says about at least one image (description.OUTPUTS).

        Raises DataError for an image that cannot be read, CheckpointError for logits that are not finite.
        """
        pixels = [
            prepared_pixels(open_plain_image(each, at_least=self.preprocessing.at_least), self.preprocessing)
            for each in images
        ]
        return self.run(np.stack(pixels), [name_of(*each) for each in enumerate(images)])

    def run(self, pixels: Pixels, names: Sequence[str] = ()) -> Outputs:
        """What the graph says about prepared pixels, uint8 (batch, height, width, 3), of at least one image.

        `names` are what errors call the images. Raises CheckpointError for logits that are not finite.
        """
        outputs = self._session.run(pixels)
        finite = np.isfinite(outputs[self.source]).all(axis=1)
        if not finite.all():
            place = int(np.argmin(finite))
            name = names[place] if names else f"image {place}"
            reason = f"{self.path}: its output for {name} is not finite"
            raise CheckpointError(f"{reason}; its weights are damaged, export it again")
        return outputs

    def rank(self, outputs: Outputs, top: int) -> list[list[Guess]]:
        """The `top` best guesses for each image that these outputs are about."""
        rows = self.answering.probabilities(outputs[self.source])
        return [self.answering.guesses(row, top) for row in rows]

    def _stream(self, paths: Iterator[str | Path], top: int, batch_size: int) -> Iterator[Prediction]:
        with ThreadPoolExecutor(core_count()) as pool:
            while batch := [Path(path) for path in islice(paths, batch_size)]:
                read = list(pool.map(self._read, batch))
                shown = [
                    (str(path), each)
                    for path, each in zip(batch, read, strict=True)
                    if not isinstance(each, str)
                ]
                answered = iter(self._answered(shown, top))
                for path, each in zip(batch, read, strict=True):
                    if isinstance(each, str):
                        yield prediction_of(path, None, each)
                    else:
                        yield prediction_of(path, next(answered), "")

    def _answered(self, shown: Sequence[tuple[str, Pixels]], top: int) -> list[Answered]:
        """What is said about names and their pixels, of which there may be none."""
        if not shown:
            return []
        names, pixels = zip(*shown, strict=True)
        return self.answering.answered(self.run(np.stack(pixels), names)[self.source], top)

    def _read(self, path: Path) -> Pixels | str:
        """The pixels of a file, or why it cannot be read."""
        try:
            image = read_image(path, at_least=self.preprocessing.at_least)
        except DataError as error:
            return str(error)
        return prepared_pixels(image, self.preprocessing)


def facts_of(description: ExportedDescription, source: Source, name: str) -> ModelFacts:
    """What the rules of answers need to know of an exported model."""
    calibration = description.calibration
    return ModelFacts(
        name=name,
        classes=description.classes,
        calibration=None if calibration is None else calibration.of(source),
        taxonomy=description.taxonomy,
    )


def read_description(path: Path) -> ExportedDescription:
    """What an exported file says of itself. Raises CheckpointError for any other file."""
    document = read_metadata(path).get(KEY)
    if document is None:
        rule = "is an ONNX file, but not one of mpfgvc export: its metadata say nothing of classes"
        raise CheckpointError(f"{path} {rule}; make one with mpfgvc export")
    return ExportedDescription.read(document, path)
