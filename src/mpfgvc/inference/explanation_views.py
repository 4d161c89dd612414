"""The views of an explanation: the photograph with what the model made of each of its patches.

Each view is an RGB picture of the size that is asked for, with a caption. Blue and orange can be told apart
by everyone, and patches that are large enough say + or - as well.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from mpfgvc.config import Selection
from mpfgvc.inference.explain import Explanation
from mpfgvc.inference.lettering import lettering

CHOSEN_BY: dict[Selection, str] = {
    "attention": "attention of the class token",
    "rollout": "attention rollout",
    "random": "chance, which chose the patches",
}
"""The caption of the third view."""
Size = tuple[int, int]
"""(width, height) in pixels."""
_DIMMED = 0.22
_WARM = np.array([255, 120, 20], dtype=np.float32)
_FOR = np.array([40, 110, 255], dtype=np.float32)
_AGAINST = np.array([255, 140, 0], dtype=np.float32)
_FRAME = "#ff8c00"
_SIGN_ROOM = 11  # pixels that a patch must have for a sign in it
_SIGN_LEAST = 0.15  # of the largest change: what is below has no sign


@dataclass(frozen=True, kw_only=True)
class View:
    """One picture and what it shows, in a line or two."""

    picture: Image.Image
    caption: str


def views(explanation: Explanation, size: Size) -> list[View]:
    """The four views: plain, the kept patches, what they were chosen by, and what each of them says."""
    kept = f"the {len(explanation.kept)} kept patches"
    return [
        View(picture=_photograph(explanation, size), caption="what the tower sees"),
        View(picture=kept_view(explanation, size), caption=kept),
        View(
            picture=_heat(explanation, explanation.attention, size), caption=CHOSEN_BY[explanation.selection]
        ),
        evidence_view(explanation, size),
    ]


def kept_view(explanation: Explanation, size: Size) -> Image.Image:
    """The kept patches as they are, the others dimmed."""
    return _to_image(_dimmed(explanation, size))


def evidence_view(explanation: Explanation, size: Size) -> View:
    """The kept patches in blue where they speak for the answer, in orange where they speak against it."""
    changes = explanation.change_map
    strength = changes / max(float(np.abs(changes).max()), 1e-12)
    spread = _spread(strength, size, Image.Resampling.NEAREST)
    colour: NDArray[np.float32] = np.where(spread > 0, _FOR, _AGAINST)
    weight: NDArray[np.float32] = np.sqrt(np.abs(spread)) * np.float32(0.75)
    dimmed = _dimmed(explanation, size)
    picture = _to_image(dimmed + weight * (colour - dimmed))
    _write_signs(picture, strength)
    return View(picture=picture, caption=f"+ for {explanation.answer}\n- for {explanation.against}")


def change_view(explanation: Explanation, places: Sequence[tuple[int, int]], size: Size) -> Image.Image:
    """The kept patches, with a frame around some: those that only this one of two photographs keeps."""
    picture = kept_view(explanation, size)
    rows, columns = explanation.attention.shape
    height, width = picture.height / rows, picture.width / columns
    pen = ImageDraw.Draw(picture)
    for row, column in places:
        corners = (column * width, row * height, (column + 1) * width - 1, (row + 1) * height - 1)
        pen.rectangle([round(corner) for corner in corners], outline=_FRAME, width=2)
    return picture


def head_views(explanation: Explanation, size: Size) -> list[View]:
    """The attention of each head, each as bright as its own strongest patch."""
    return [
        View(picture=_heat(explanation, head, size), caption=f"head {place + 1}")
        for place, head in enumerate(explanation.heads)
    ]


def _write_signs(picture: Image.Image, strength: NDArray[np.float32]) -> None:
    """A + or a - in each patch that says something."""
    rows, columns = strength.shape
    height, width = picture.height / rows, picture.width / columns
    if min(height, width) < _SIGN_ROOM:
        return
    pen, letters = ImageDraw.Draw(picture), lettering(round(0.8 * min(height, width)))
    for row, column in zip(*np.nonzero(np.abs(strength) > _SIGN_LEAST), strict=True):
        sign = "+" if strength[row, column] > 0 else "-"
        left = (column + 0.5) * width - letters.width(sign) / 2
        letters.draw(pen, (left, (row + 0.5) * height - 0.68 * letters.size), sign, fill="white")


def _photograph(explanation: Explanation, size: Size) -> Image.Image:
    return explanation.image.resize(size, Image.Resampling.BICUBIC)


def _dimmed(explanation: Explanation, size: Size) -> NDArray[np.float32]:
    pixels = np.asarray(_photograph(explanation, size), dtype=np.float32)
    kept = _spread(explanation.kept_mask.astype(np.float32), size, Image.Resampling.NEAREST)
    dimmed: NDArray[np.float32] = pixels * (_DIMMED + (1 - _DIMMED) * kept) + 255 * 0.35 * (1 - kept)
    return dimmed


def _heat(explanation: Explanation, attention: NDArray[np.float32], size: Size) -> Image.Image:
    pixels = np.asarray(_photograph(explanation, size), dtype=np.float32)
    heat = _spread(attention / attention.max(), size, Image.Resampling.BICUBIC).clip(0, 1)
    return _to_image(pixels.mean(axis=2, keepdims=True) * 0.55 * (1 - 0.6 * heat) + _WARM * 0.85 * heat)


def _spread(grid: NDArray[np.float32], size: Size, resample: Image.Resampling) -> NDArray[np.float32]:
    """One value per patch as one per pixel, (height, width, 1)."""
    spread = Image.fromarray(grid.astype(np.float32)).resize(size, resample)
    values: NDArray[np.float32] = np.asarray(spread)[..., None]
    return values


def _to_image(values: NDArray[np.float32]) -> Image.Image:
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))
