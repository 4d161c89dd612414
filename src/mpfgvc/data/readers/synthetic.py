"""The synthetic birds as a dataset: `data.dataset: synthetic`. Pictures are drawn when they are read.

A picture is a function of (seed, class, split, number), so any worker of any
process draws the same one, and 5 training pictures a class are the first 5 of 20.
Small ones are remembered by the process that drew them, as every epoch reads them again.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

from PIL import Image

from mpfgvc.birds.plumage import Plumage, Species, all_species
from mpfgvc.birds.scene import Picture, draw_image, draw_picture
from mpfgvc.config import MOST_PICTURES, BirdsConfig
from mpfgvc.data.samples import PhotoSet, Sample, Split

REMEMBERED, REMEMBERED_SIZE = 2048, 128
"""How many pictures each process remembers, loader processes too, and up to how many pixels wide.

At most 134 MB each; 75 MB of pictures of 96 pixels.
"""


@dataclass(frozen=True, kw_only=True)
class DrawnSample(Sample):
    """A picture that is drawn when it is read; its path is a name, there is no file."""

    has_file: ClassVar[bool] = False
    plumage: Plumage
    seed: int
    index: int
    size: int

    def read(self, *, at_least: tuple[int, int] | None = None) -> Image.Image:
        """The picture, in its own size."""
        draw = _draw if self.size <= REMEMBERED_SIZE else _draw.__wrapped__
        return draw(self.plumage, self.seed, self.index, self.size).copy()

    def picture(self) -> Picture:
        """The picture with the regions of its parts."""
        return draw_picture(self.plumage, seed=self.seed, index=self.index, size=self.size)


def read_birds(config: BirdsConfig) -> PhotoSet:
    """The benchmark: training and test pictures of every class, in the order of the classes."""
    species = all_species(config.species)
    samples = [sample for kind in species for sample in _samples(kind, config)]
    return PhotoSet(
        name="synthetic birds",
        classes=tuple(kind.name for kind in species),
        samples=tuple(samples),
        supercategory="bird",
    )


def folder_name(species: Species) -> str:
    """The class's name as CUB writes it: `001.Common_Thornbill`."""
    return f"{species.index + 1:03d}.{species.name.replace(' ', '_')}"


@lru_cache(maxsize=REMEMBERED)
def _draw(plumage: Plumage, seed: int, index: int, size: int) -> Image.Image:
    return draw_image(plumage, seed=seed, index=index, size=size)


def _samples(species: Species, config: BirdsConfig) -> list[DrawnSample]:
    counts: dict[Split, int] = {"train": config.train, "test": config.test}
    return [
        DrawnSample(
            path=Path("synthetic", folder_name(species), f"{split}_{number + 1:04d}.png"),
            label=species.index,
            split=split,
            plumage=species.plumage,
            seed=config.seed,
            index=(2 * species.index + place) * MOST_PICTURES + number,
            size=config.image_size,
        )
        for place, (split, count) in enumerate(counts.items())
        for number in range(count)
    ]
