"""What a prediction rests on: the kept patches, what each of them says, and photographs that look alike.

    predictor.explain("bird.jpg")

The attention is that of the class token in the second-to-last block (METHOD section 1), from which the K
patches were chosen; with another `model.selection`, what these were chosen by. Which of them speak for the
answer and which against it is computed in evidence.py. `explanation_picture.py` draws it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from mpfgvc.config import Selection
from mpfgvc.data.preprocessing import centre_crop, normalise, scale
from mpfgvc.data.run_photos import photos_of_run
from mpfgvc.errors import CheckpointError, DataError
from mpfgvc.inference.answering import Guess
from mpfgvc.inference.arguments import refuse_below
from mpfgvc.inference.evidence import Evidence, evidence_in
from mpfgvc.inference.nearest_photos import LikePhoto, RunPhotos
from mpfgvc.inference.predictor import Predictor
from mpfgvc.run_folder import RunFolder

if TYPE_CHECKING:
    from mpfgvc.inference.sources import ImageSource

DIGITS = 5
"""Significant digits of the numbers in documents."""


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """A photograph as the tower sees it, the guesses, and what they rest on."""

    image: Image.Image
    guesses: list[Guess]
    kept: list[tuple[int, int]]
    """(row, column) of the kept patches in the grid, most attended first."""
    attention: NDArray[np.float32]
    """Share of the class token's attention to patches that each patch has, (rows, columns); sums to 1.
    With another `selection`, the share in what the patches were chosen by."""
    heads: NDArray[np.float32]
    """Attention of the class token in each head of the second-to-last block, (heads, rows, columns). What is
    missing to a sum of 1 goes to the class token itself and to registers."""
    answer: str
    against: str
    """The runner-up."""
    difference: float
    """Logit of the answer minus that of the runner-up."""
    change: list[float]
    """How far the difference falls without each patch, in the order of `kept`: above 0 a patch speaks for the
    answer, below 0 for the runner-up."""
    nearest: Mapping[str, Sequence[LikePhoto]] = field(default_factory=dict)
    """The nearest training photographs of the answer and of the runner-up, if they were asked for."""
    selection: Selection = "attention"
    """What the patches were chosen by."""

    @property
    def kept_mask(self) -> NDArray[np.bool_]:
        """Whether a patch was kept, (rows, columns)."""
        mask = np.zeros(self.attention.shape, dtype=bool)
        mask[tuple(zip(*self.kept, strict=True))] = True
        return mask

    @property
    def change_map(self) -> NDArray[np.float32]:
        """`change` at the place of each patch, (rows, columns); 0 where no patch was kept."""
        changes = np.zeros(self.attention.shape, dtype=np.float32)
        changes[tuple(zip(*self.kept, strict=True))] = self.change
        return changes

    def to_dict(self, *, maps: bool = False) -> dict[str, Any]:
        """An entry of the document of `mpfgvc explain --json`; `maps` adds the attention of every patch."""
        document: dict[str, Any] = {
            "guesses": [vars(guess) for guess in self.guesses],
            "kept": self.kept,
            "evidence": {
                "answer": self.answer,
                "against": self.against,
                "difference": _rounded(self.difference),
                "change": [_rounded(value) for value in self.change],
            },
        }
        if self.nearest:
            document["nearest"] = {
                label: [each.to_dict() for each in photos] for label, photos in self.nearest.items()
            }
        if maps:
            document["attention"] = _rows(self.attention)
            document["heads"] = [_rows(head) for head in self.heads]
        return document


def explain(
    predictor: Predictor,
    image: "ImageSource",
    *,
    top: int = 3,
    photos: RunPhotos | None = None,
    nearest: int = 3,
) -> Explanation:
    """Predict one image and say what the answer rests on.

    `photos` (nearest_photos.py) adds the `nearest` training photographs of the answer and of the runner-up.
    Raises DataError for an unreadable image, ConfigError for `top`, CheckpointError for a damaged model.
    """
    refuse_below(1, "top", top)
    preprocessing = predictor.preprocessing
    seen = centre_crop(scale(predictor.open(image), preprocessing), preprocessing.image_size)
    name = str(image) if isinstance(image, str | Path) else "the given image"
    pixels = torch.from_numpy(normalise(seen, preprocessing))
    found = evidence_in(predictor.inference, pixels, name, source=predictor.source)
    encoder = predictor.inference.network.image_encoder
    grid = encoder.tower.grid
    answer, against = (predictor.classes[index] for index in (found.answer, found.against))
    logits = getattr(found.output, predictor.source).float().cpu().numpy()
    scores = found.output.scores[0].float().cpu().numpy().reshape(grid)
    return Explanation(
        image=seen,
        guesses=predictor.answering.guesses(predictor.answering.probabilities(logits)[0], top),
        kept=_places(found, grid),
        attention=scores / scores.sum(),
        heads=found.heads.numpy().reshape(-1, *grid),
        answer=answer,
        against=against,
        difference=found.difference,
        change=found.change.tolist(),
        nearest=_nearest(photos, found, (answer, against), nearest, name),
        selection=encoder.selection,
    )


def named_test_images(
    run: str | Path, count: int, *, root: str | Path | None = None, manifest: str | Path | None = None
) -> list[tuple[str, Path | Image.Image]]:
    """`count` photographs of a run's test split, of classes far apart, each named by its class and file.

    `root` and `manifest` say where the dataset is now, if it moved. Raises CheckpointError
    for a folder that is not a run, DataError for a dataset without a test split.
    """
    folder = RunFolder(run)
    if not folder.is_run:
        raise CheckpointError(f"{run} is not a run folder, it has no test photographs; name some photographs")
    restored = photos_of_run(folder, root=root, manifest=manifest)
    classes, samples = restored.photos.classes, restored.found("test")
    if not samples:
        raise DataError(f"the dataset of {run} has no test split; name some photographs")
    places = np.linspace(0, len(samples) - 1, min(count, len(samples))).round().astype(int)
    chosen = [samples[place] for place in places]
    return [
        (f"{classes[each.label]}: {each.path.name}", each.path if each.has_file else each.read())
        for each in chosen
    ]


def _places(found: Evidence, grid: tuple[int, int]) -> list[tuple[int, int]]:
    rows, columns = np.unravel_index(found.output.kept[0].cpu().numpy(), grid)
    return list(zip(rows.tolist(), columns.tolist(), strict=True))


def _nearest(
    photos: RunPhotos | None, found: Evidence, labels: tuple[str, str], count: int, name: str
) -> dict[str, list[LikePhoto]]:
    if photos is None:
        return {}
    embedding = found.output.embedding[0].float().cpu().numpy()
    return {label: photos.like(embedding, label, count=count, other_than=name) for label in labels}


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _rows(grid: NDArray[np.float32]) -> list[list[float]]:
    return [[_rounded(value) for value in row] for row in grid.tolist()]
