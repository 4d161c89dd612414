"""What a prediction rests on: the patches that the class token keeps, drawn on the photograph.

Three views of a photograph, as the tower sees it: plain; the K kept patches,
the others dimmed; and the attention of the class token to every patch in the
second-to-last block (METHOD section 1), from which the K were chosen.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from mpfgvc.data.catalog import read_photos
from mpfgvc.data.preprocessing import centre_crop, normalise, scale
from mpfgvc.errors import CheckpointError, DataError
from mpfgvc.inference.guess import Guess
from mpfgvc.inference.predictor import ImageSource, Predictor, find_images
from mpfgvc.run_folder import RunFolder
from mpfgvc.storage import write_bytes

VIEW_SIDE = 240
"""Longer side of each view in pixels."""
_GAP, _LINE = 12, 22
_DIMMED = 0.22
_WARM = np.array([255.0, 120.0, 20.0])


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """A photograph as the tower sees it, the guesses, and what they rest on."""

    image: Image.Image
    guesses: list[Guess]
    kept: list[tuple[int, int]]
    """(row, column) of the kept patches in the grid, most attended first."""
    attention: NDArray[np.float32]
    """Share of the class token's attention to patches that each patch has, (rows, columns); sums to 1."""

    @property
    def kept_mask(self) -> NDArray[np.bool_]:
        """Whether a patch was kept, (rows, columns)."""
        mask = np.zeros(self.attention.shape, dtype=bool)
        mask[tuple(zip(*self.kept, strict=True))] = True
        return mask

    def to_dict(self) -> dict[str, Any]:
        """An entry of the document of `mpfgvc explain --json`."""
        return {"guesses": [vars(guess) for guess in self.guesses], "kept": self.kept}


@torch.inference_mode()
def explain(predictor: Predictor, image: ImageSource, *, top: int = 3) -> Explanation:
    """Predict one image and say which patches were kept. Raises DataError for an unreadable image."""
    preprocessing = predictor.preprocessing
    seen = centre_crop(scale(predictor.open(image), preprocessing), preprocessing.image_size)
    pixels = torch.from_numpy(normalise(seen, preprocessing))[None].to(predictor.device)
    output = predictor.network(pixels)
    grid = predictor.network.image_encoder.tower.grid
    scores = output.scores[0].float().cpu().numpy().reshape(grid)
    rows, columns = np.unravel_index(output.kept[0].cpu().numpy(), grid)
    return Explanation(
        image=seen,
        guesses=predictor.rank(output, top)[0],
        kept=list(zip(rows.tolist(), columns.tolist(), strict=True)),
        attention=scores / scores.sum(),
    )


def named_files(patterns: Sequence[str]) -> list[tuple[str, Path]]:
    """The photographs in files, folders and globs, each with its name. Raises DataError if there are none."""
    return [(str(path), path) for path in find_images(patterns)]


def named_test_images(run: str | Path, count: int) -> list[tuple[str, Image.Image]]:
    """`count` photographs of a run's test split, of classes far apart, each named by its class and file.

    Raises CheckpointError for a folder that is no run, DataError for a dataset without a test split.
    """
    folder = RunFolder(run)
    if not folder.is_run:
        raise CheckpointError(f"{run} is no run folder, so it has no test photographs; name some photographs")
    config = folder.read_config()
    photos = read_photos(config.data, seed=config.seed)
    samples = photos.subset("test")
    if not samples:
        raise DataError(f"the dataset of {run} has no test split; name some photographs")
    places = np.linspace(0, len(samples) - 1, min(count, len(samples))).round().astype(int)
    chosen = [samples[place] for place in places]
    return [(f"{photos.classes[sample.label]}: {sample.path.name}", sample.read()) for sample in chosen]


def save_picture(explanations: Mapping[str, Explanation], file: str | Path) -> None:
    """Write `draw`'s picture as PNG, whole or not at all. Raises OutputError."""
    content = io.BytesIO()
    draw(explanations).save(content, format="PNG")
    write_bytes(Path(file), content.getvalue())


def draw(explanations: Mapping[str, Explanation]) -> Image.Image:
    """One picture: for each explanation its name, its guesses and its three views, from top to bottom."""
    rows = [_draw_row(explanation, name) for name, explanation in explanations.items()]
    width = max(row.width for row in rows)
    sheet = Image.new("RGB", (width, sum(row.height for row in rows)), "white")
    top = 0
    for row in rows:
        sheet.paste(row, (0, top))
        top += row.height
    return sheet


def _draw_row(explanation: Explanation, title: str) -> Image.Image:
    views = [_enlarged(view) for view in _views(explanation)]
    width, height = views[0].size
    row = Image.new("RGB", (3 * width + 4 * _GAP, height + 3 * _LINE + _GAP), "white")
    pen = ImageDraw.Draw(row)
    guesses = "   ".join(f"{guess.label} {100 * guess.probability:.0f} %" for guess in explanation.guesses)
    room = row.width - 2 * _GAP
    pen.text((_GAP, 6), _shortened(title, 16, room), fill="black", font=_font(16))
    best = _shortened(guesses[::-1], 14, room)[::-1]
    pen.text((_GAP, 6 + _LINE), best, fill=(60, 60, 60), font=_font(14))
    names = (
        "what the tower sees",
        f"the {len(explanation.kept)} kept patches",
        "attention of the class token",
    )
    for place, (view, name) in enumerate(zip(views, names, strict=True)):
        left = _GAP + place * (width + _GAP)
        row.paste(view, (left, 2 * _LINE + 6))
        pen.text((left, 2 * _LINE + 8 + height), name, fill=(110, 110, 110), font=_font(12))
    return row


def _shortened(text: str, size: int, width: int) -> str:
    """The end of a text that is too long for `width` pixels in letters of `size`."""
    while _font(size).getlength(text) > width:
        text = "..." + text[4:]
    return text


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _views(explanation: Explanation) -> tuple[Image.Image, Image.Image, Image.Image]:
    """The three views, all in the size that the tower sees."""
    image = explanation.image
    pixels = np.asarray(image, dtype=np.float32)
    kept = _spread(explanation.kept_mask.astype(np.float32), image, Image.Resampling.NEAREST)
    heat = _spread(explanation.attention / explanation.attention.max(), image, Image.Resampling.BICUBIC)
    dimmed = pixels * (_DIMMED + (1 - _DIMMED) * kept) + 255 * 0.35 * (1 - kept)
    warm = pixels.mean(axis=2, keepdims=True) * 0.55 * (1 - 0.6 * heat) + _WARM * 0.85 * heat
    return image, _to_image(dimmed), _to_image(warm)


def _spread(grid: NDArray[np.float32], image: Image.Image, resample: Image.Resampling) -> NDArray[np.float32]:
    """One value per patch as one per pixel, (height, width, 1), 0..1."""
    spread = Image.fromarray(grid.astype(np.float32)).resize(image.size, resample)
    values: NDArray[np.float32] = np.clip(np.asarray(spread), 0, 1)[..., None]
    return values


def _enlarged(image: Image.Image) -> Image.Image:
    factor = VIEW_SIDE / max(image.size)
    size = (round(image.width * factor), round(image.height * factor))
    return image.resize(size, Image.Resampling.BICUBIC)


def _to_image(values: NDArray[np.float32]) -> Image.Image:
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))
