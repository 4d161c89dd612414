"""From images to ranked guesses with a trained model.

    predictor = Predictor.from_pretrained("runs/cub")
    predictor("bird.jpg", top=5)            # a list of Guess, best first
    predictor(["a.jpg", pil_image, array])  # a list of such lists

Probabilities are the softmax of one source of logits; the paper's is `fusion`.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, Self, overload

import numpy as np
import torch
from jaxtyping import Float
from PIL.Image import Image
from torch import Tensor

from mpfgvc.data.images import IMAGE_SUFFIXES, as_image, read_image
from mpfgvc.data.loading import evaluation_loader, worker_count
from mpfgvc.data.samples import Sample, natural_key
from mpfgvc.data.transforms import test_transform
from mpfgvc.devices import find_device, send
from mpfgvc.errors import ConfigError, DataError
from mpfgvc.inference.guess import Guess
from mpfgvc.inference.saved_model import SavedModel, load_model
from mpfgvc.model.network import Output

ImageSource = str | Path | Image | np.ndarray
"""A path, a Pillow image, or an array: (height, width[, 3]), uint8 or floats in 0..1."""
Source = Literal["fusion", "vision", "text"]


class Predictor:
    """A trained model, ready for images of any size and kind."""

    def __init__(self, saved: SavedModel, *, device: torch.device | str = "cpu", source: Source = "fusion"):
        self.device = torch.device(device)
        self.network = saved.network.to(self.device).eval()
        self.preprocessing = saved.preprocessing
        self.transform = test_transform(saved.preprocessing)
        self.classes = self.network.classes
        self.source = source

    @classmethod
    def from_pretrained(cls, model: str | Path, *, device: str = "auto", source: Source = "fusion") -> Self:
        """Read a run folder, a model folder or a repository of the hub.

        `device` auto takes an accelerator if there is one. On a CPU the network is packed for
        inference (packed_linear.py); to train it or to move it, take `load_model`. Raises
        CheckpointError for a model that cannot be had, ConfigError for a device that is not there.
        """
        saved, found = load_model(model), find_device(device)
        if found == "cpu":
            saved.network.image_encoder.tower.pack()
        return cls(saved, device=found, source=source)

    @overload
    def __call__(self, images: ImageSource, *, top: int = 5) -> list[Guess]: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, images: Sequence[ImageSource], *, top: int = 5) -> list[list[Guess]]: ...

    def __call__(
        self, images: ImageSource | Sequence[ImageSource], *, top: int = 5
    ) -> list[Guess] | list[list[Guess]]:
        """The `top` best guesses for an image, or for each of several; all of several go in one batch.

        Raises DataError for an image that cannot be read.
        """
        if isinstance(images, str | Path | Image | np.ndarray):
            return self([images], top=top)[0]
        if not images:
            return []
        pixels = torch.stack([self.transform(self.open(image)) for image in images])
        return self._rank(pixels, top)

    def predict_files(
        self, paths: Sequence[Path], *, top: int = 5, batch_size: int = 32, workers: int | None = None
    ) -> Iterator[tuple[Path, list[Guess] | None]]:
        """Each file with its guesses, or with None if it cannot be read; decoding runs beside the model."""
        on_cpu = self.device.type == "cpu"
        samples = [Sample(path=path, label=0, split="test") for path in paths]
        batches = evaluation_loader(
            samples,
            self.transform,
            batch_size=batch_size,
            workers=worker_count(workers, model_on_cpu=on_cpu) if len(paths) > batch_size else 0,
            on_error="skip",
        )
        for batch in batches:
            yield from ((Path(path), None) for path in batch.broken)
            if len(batch.indices):
                guesses = self._rank(batch.images, top)
                yield from zip((paths[index] for index in batch.indices.tolist()), guesses, strict=True)

    @torch.inference_mode()
    def _rank(self, pixels: Float[Tensor, "batch 3 height width"], top: int) -> list[list[Guess]]:
        if top < 1:
            raise ConfigError(f"top must be at least 1, got {top}")
        return self.rank(self.network(send(pixels, self.device)), top)

    def rank(self, output: Output, top: int) -> list[list[Guess]]:
        """The `top` best guesses for each image that an output of the network is about."""
        probabilities = getattr(output, self.source).float().softmax(dim=-1)
        best = probabilities.topk(min(top, len(self.classes)), dim=-1)
        return [
            [Guess(label=self.classes[label], probability=value) for value, label in zip(*row, strict=True)]
            for row in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ]

    def open(self, image: ImageSource) -> Image:
        """The image, RGB and upright, decoded as every prediction does it. Raises DataError."""
        if isinstance(image, str | Path):
            return read_image(image, at_least=self.transform.at_least)
        return as_image(image)


def find_images(patterns: Sequence[str]) -> list[Path]:
    """The photographs in files, folders (searched to the bottom) and globs, each once, in natural order.

    Raises DataError for a pattern that names none.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        paths = _match(pattern)
        if not paths:
            hint = "give a file, a folder or a glob such as 'photos/*.jpg'"
            raise DataError(f"no photographs in {pattern}; {hint}")
        found.update(dict.fromkeys(paths))
    return list(found)


def _match(pattern: str) -> list[Path]:
    path = Path(pattern).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        candidates = path.rglob("*")
    else:
        candidates = Path(path.anchor or ".").glob(str(path.relative_to(path.anchor)))
    photos = (each for each in candidates if each.suffix.lower() in IMAGE_SUFFIXES and each.is_file())
    return sorted(photos, key=lambda each: natural_key(str(each)))
