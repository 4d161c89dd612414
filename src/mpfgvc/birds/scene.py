"""One photograph of a bird: place, light, twigs and noise around the bird, and its regions.

A picture is a function of (plumage, seed, index, size) only: the same on every machine and in every worker.
What varies inside a class is large, as in the field: pose, direction, scale, place, light, occluding twigs,
background, sensor noise. The region map gets the same polygons in the same order as the picture, so it holds,
for every pixel, the part that is on top there, and 0 where a twig covers it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import aggdraw
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

from mpfgvc.birds.anatomy import Color, Points, Pose, Shape, bird_shapes
from mpfgvc.birds.plumage import PARTS, Plumage

_BACKGROUNDS: tuple[tuple[Color, Color], ...] = (
    ((86, 120, 62), (150, 172, 98)),  # leaves
    ((126, 168, 208), (206, 222, 232)),  # sky
    ((120, 98, 72), (176, 156, 122)),  # earth
    ((74, 96, 104), (140, 158, 158)),  # water
    ((188, 180, 150), (226, 220, 200)),  # dry grass
    ((52, 62, 48), (98, 104, 78)),  # deep wood
)
_LEAF_COLORS: tuple[Color, ...] = ((70, 112, 48), (104, 140, 60), (150, 130, 52), (58, 90, 50))
_BARK_COLORS: tuple[Color, ...] = ((92, 70, 52), (120, 102, 84), (70, 58, 50))
_NUMBER = {part: number for number, part in enumerate(PARTS, start=1)}


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A drawn photograph. `regions` (size, size): the part on top of each pixel, see `part_mask`."""

    image: Image.Image
    regions: NDArray[np.uint8]

    def part_mask(self, part: str) -> NDArray[np.bool_]:
        """The visible pixels of a part. Raises ValueError for a part that birds do not have."""
        mask: NDArray[np.bool_] = self.regions == PARTS.index(part) + 1
        return mask

    @property
    def box(self) -> tuple[int, int, int, int]:
        """(x, y, width, height) of the visible bird in pixels."""
        rows, columns = np.nonzero(self.regions)
        left, top = int(columns.min()), int(rows.min())
        return left, top, int(columns.max()) + 1 - left, int(rows.max()) + 1 - top


def draw_picture(plumage: Plumage, *, seed: int, index: int, size: int = 96) -> Picture:
    """Photograph `index` of a bird, `size` pixels wide and high, with its regions."""
    scene = _Scene.at_random(plumage, np.random.default_rng((seed, index)), size)
    return Picture(image=scene.image(), regions=_paint_regions(size, scene.shapes, scene.matrix))


def draw_image(plumage: Plumage, *, seed: int, index: int, size: int = 96, variation: float = 1.0) -> Image.Image:
    """Only the image of `draw_picture`, in less time.

    With less `variation` (0..1) the bird is larger, nearer to the centre and more often facing right
    and free of twigs; at 0 always so. For a training that begins with easy pictures.
    """
    return _Scene.at_random(plumage, np.random.default_rng((seed, index)), size, variation).image()


@dataclass(frozen=True, kw_only=True)
class _Scene:
    """Everything random about a picture, drawn in a fixed order."""

    backdrop: Image.Image
    shapes: list[Shape]
    matrix: Points
    light: NDArray[np.float32]
    noise: NDArray[np.float32]

    @classmethod
    def at_random(cls, plumage: Plumage, generator: Generator, size: int, variation: float = 1.0) -> _Scene:
        bird = _tinted(bird_shapes(plumage, _pose(generator, variation)), generator)
        matrix = _placement(bird, generator, size, variation)
        perch = list(_perch(bird, generator))
        twigs = list(_twigs(generator)) if generator.random() < variation else []
        return cls(
            backdrop=_backdrop(generator, size),
            shapes=[*perch, *bird, *_into_units(twigs, matrix, size)],
            matrix=matrix,
            light=_light(generator, size),
            noise=_noise(generator, size),
        )

    def image(self) -> Image.Image:
        pixels = np.asarray(_paint(self.backdrop, self.shapes, self.matrix), dtype=np.float32)
        lit = pixels * self.light + self.noise
        return Image.fromarray(np.clip(lit, 0, 255).astype(np.uint8))


def _pose(generator: Generator, variation: float) -> Pose:
    tilt, head, tail, wing, legs = variation * generator.normal(0, 1, 5).clip(-2, 2)
    return Pose(
        tilt=0.14 * tilt - 0.04,
        head_turn=0.16 * head,
        tail_angle=0.12 * tail,
        wing_droop=0.05 * wing,
        leg_swing=0.10 * legs - 0.14 * tilt,
        plumpness=generator.uniform(0.92, 1.12),
        neck=generator.uniform(-0.02, 0.05),
    )


def _tinted(shapes: list[Shape], generator: Generator) -> list[Shape]:
    """Every bird's colours are a little its own, part by part."""
    tints = generator.uniform(0.92, 1.08, 3) * generator.normal(1, 0.03, (len(PARTS), 1))
    of_part = dict(zip(PARTS, tints, strict=True))
    return [
        shape._replace(color=_color(np.array(shape.color) * of_part[shape.part])) if shape.part else shape
        for shape in shapes
    ]


def _placement(bird: list[Shape], generator: Generator, size: int, variation: float) -> Points:
    """The matrix that puts the bird somewhere in the picture, as a whole, facing left or right."""
    points = np.concatenate([shape.points for shape in bird])
    low, high = points.min(axis=0), points.max(axis=0)
    scale = (0.97 - variation * generator.uniform(0, 0.31)) * size / (high - low).max()
    direction = np.array([-1.0 if generator.random() < variation / 2 else 1.0, 1.0])
    room = size - scale * (high - low)
    corner = (0.5 + variation * generator.uniform(-0.48, 0.48, 2)) * room
    shift = corner - np.minimum(scale * direction * low, scale * direction * high)
    return np.vstack([np.diag(scale * direction), shift])


def _perch(bird: list[Shape], generator: Generator) -> Iterator[Shape]:
    """A branch or the ground below the feet, in the bird's units."""
    toes = np.concatenate([shape.points for shape in bird if shape.part == "legs"])
    x, y = toes[:, 0].mean(), toes[:, 1].max() - 0.012
    slope, width = generator.normal(0, 0.10), generator.uniform(0.028, 0.06)
    color = _pick(_BARK_COLORS, generator)
    if generator.random() < 0.25:
        yield Shape(points=np.array([(-4, y), (4, y), (4, 4), (-4, 4)], dtype=float), color=color, opacity=0.55)
        return
    xs = np.linspace(-3, 3, 9)
    middle = y + width + slope * (xs - x) + generator.normal(0, 0.012, 9)
    yield Shape(points=_band(xs, middle, width), color=color)
    yield Shape(points=_band(xs, middle - 0.4 * width, 0.3 * width), color=_color(np.array(color) * 1.35))


def _twigs(generator: Generator) -> Iterator[Shape]:
    """Twigs with leaves in front of everything; in units of the picture, 0..1."""
    for _ in range(int(generator.choice((0, 1, 2), p=(0.35, 0.4, 0.25)))):
        start, bend = generator.uniform(0, 1, 2), generator.normal(0, 0.12)
        angle, length = generator.uniform(0, 2 * np.pi), generator.uniform(0.4, 1.1)
        t = np.linspace(-0.5, 0.5, 7)
        direction = np.array([np.cos(angle), np.sin(angle)])
        across = direction[::-1] * (-1, 1)
        line = start + length * np.outer(t, direction) + bend * np.outer(1 - 4 * t**2, across)
        width = generator.uniform(0.006, 0.014)
        ribbon = np.concatenate([line + width * across, (line - width * across)[::-1]])
        yield Shape(points=ribbon, color=_pick(_BARK_COLORS, generator))
        for place in line[generator.integers(0, 7, int(generator.integers(0, 4)))]:
            yield _leaf(place, generator)


def _leaf(place: Points, generator: Generator) -> Shape:
    t = np.linspace(0, np.pi, 7)
    length, width = generator.uniform(0.07, 0.15), generator.uniform(0.014, 0.03)
    side = np.stack([length * (1 - np.cos(t)) / 2, width * np.sin(t)], axis=1)
    outline = np.concatenate([side, (side * (1, -1))[::-1]])
    angle = generator.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return Shape(points=outline @ turn + place, color=_pick(_LEAF_COLORS, generator))


def _into_units(shapes: list[Shape], matrix: Points, size: int) -> list[Shape]:
    """Shapes given in units of the picture, in those of the bird."""
    scale, shift = np.diag(matrix[:2]), matrix[2]
    return [shape._replace(points=(shape.points * size - shift) / scale) for shape in shapes]


def _backdrop(generator: Generator, size: int) -> Image.Image:
    """Out of focus: smooth noise between two colours, coarse and less coarse."""
    dark, light = (np.array(color) for color in _BACKGROUNDS[int(generator.integers(len(_BACKGROUNDS)))])
    coarse = generator.uniform(0, 1, (4, 4, 1)) + generator.normal(0, 0.08, (4, 4, 3))
    fine = generator.normal(0, 9, (11, 11, 1)) + generator.normal(0, 3, (11, 11, 3))
    smooth = _enlarged(dark + (light - dark) * coarse, size)
    return Image.blend(smooth, _enlarged(127 + 4 * fine, size), 0.12)


def _light(generator: Generator, size: int) -> NDArray[np.float32]:
    """What each pixel is multiplied by: brightness, its fall across the picture, the colour of the hour."""
    x, y = np.linspace(-1, 1, size)[None, :], np.linspace(-1, 1, size)[:, None]
    angle, strength = generator.uniform(0, 2 * np.pi), generator.uniform(0, 0.22)
    fall = 1 + strength * (np.cos(angle) * x + np.sin(angle) * y)
    warmth = generator.normal(0, 0.05)
    color = np.array([1 + warmth, 1.0, 1 - warmth]) * generator.uniform(0.75, 1.15)
    light: NDArray[np.float32] = (fall[..., None] * color).astype(np.float32)
    return light


def _noise(generator: Generator, size: int) -> NDArray[np.float32]:
    strength = np.float32(generator.uniform(1, 9))
    grain: NDArray[np.float32] = generator.standard_normal((size, size, 3), dtype=np.float32) * strength
    return grain


def _enlarged(grid: NDArray[np.float64], size: int) -> Image.Image:
    small = Image.fromarray(np.clip(grid, 0, 255).astype(np.uint8))
    return small.resize((size, size), Image.Resampling.BICUBIC)


def _band(xs: Points, middle: Points, width: float) -> Points:
    upper, lower = np.stack([xs, middle - width], axis=1), np.stack([xs, middle + width], axis=1)
    return np.concatenate([upper, lower[::-1]])


def _pick(colors: tuple[Color, ...], generator: Generator) -> Color:
    return _color(np.array(colors[int(generator.integers(len(colors)))]) * generator.uniform(0.85, 1.15))


def _color(values: NDArray[np.float64]) -> Color:
    red, green, blue = values.tolist()
    return red, green, blue


def _paint(picture: Image.Image, shapes: Iterable[Shape], matrix: Points) -> Image.Image:
    """The picture with the shapes on it. `matrix` (3, 2) takes [x, y, 1] to pixels."""
    canvas = aggdraw.Draw(picture)
    for shape in shapes:
        if shape.paint:
            red, green, blue = (min(255, max(0, int(value))) for value in shape.color)
            brush = aggdraw.Brush((red, green, blue), int(255 * shape.opacity))
            canvas.polygon(_pixels(shape.points, matrix), None, brush)
    canvas.flush()
    return picture


def _paint_regions(size: int, shapes: Iterable[Shape], matrix: Points) -> NDArray[np.uint8]:
    """The region map (size, size): 1 + the index in PARTS of the part on top, 0 elsewhere."""
    regions = Image.new("L", (size, size), 0)
    canvas = aggdraw.Draw(regions)
    canvas.setantialias(False)
    for shape in shapes:
        if shape.part is not None or (shape.opacity == 1 and shape.paint):
            number = 0 if shape.part is None else _NUMBER[shape.part]
            canvas.polygon(_pixels(shape.points, matrix), None, aggdraw.Brush((number, number, number)))
    canvas.flush()
    return np.asarray(regions)


def _pixels(points: Points, matrix: Points) -> list[float]:
    pixels: list[float] = (points @ matrix[:2] + matrix[2]).ravel().tolist()
    return pixels
