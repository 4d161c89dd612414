"""What a prediction rests on: the patches that the class token keeps, and its attention to all of them.

The attention is that of the second-to-last block (METHOD section 1), from which the K
patches were chosen; with another `model.selection`, what these were chosen by.
`explanation_picture.py` draws it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from mpfgvc.config import Selection
from mpfgvc.data.preprocessing import centre_crop, normalise, scale
from mpfgvc.data.run_photos import photos_of_run
from mpfgvc.errors import CheckpointError, DataError
from mpfgvc.inference.arguments import refuse_below
from mpfgvc.inference.guess import Guess
from mpfgvc.inference.image_source import ImageSource
from mpfgvc.inference.predictor import Predictor
from mpfgvc.run_folder import RunFolder


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
    selection: Selection = "attention"
    """What the patches were chosen by."""

    @property
    def kept_mask(self) -> NDArray[np.bool_]:
        """Whether a patch was kept, (rows, columns)."""
        mask = np.zeros(self.attention.shape, dtype=bool)
        mask[tuple(zip(*self.kept, strict=True))] = True
        return mask

    def to_dict(self) -> dict[str, Any]:
        """An entry of the document of `mpfgvc explain --json`."""
        return {"guesses": [vars(guess) for guess in self.guesses], "kept": self.kept}


def explain(predictor: Predictor, image: ImageSource, *, top: int = 3) -> Explanation:
    """Predict one image and say which patches were kept.

    Raises DataError for an unreadable image, ConfigError for `top`, CheckpointError for a damaged model.
    """
    refuse_below(1, "top", top)
    preprocessing = predictor.preprocessing
    seen = centre_crop(scale(predictor.open(image), preprocessing), preprocessing.image_size)
    name = str(image) if isinstance(image, str | Path) else "the given image"
    output = predictor.inference(torch.from_numpy(normalise(seen, preprocessing))[None], [name])
    grid = predictor.network.image_encoder.tower.grid
    scores = output.scores[0].float().cpu().numpy().reshape(grid)
    rows, columns = np.unravel_index(output.kept[0].cpu().numpy(), grid)
    return Explanation(
        image=seen,
        guesses=predictor.rank(output, top)[0],
        kept=list(zip(rows.tolist(), columns.tolist(), strict=True)),
        attention=scores / scores.sum(),
        selection=predictor.network.image_encoder.selection,
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
