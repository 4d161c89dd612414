"""The synthetic birds as a dataset: `data.dataset: synthetic`. Pictures are drawn when they are read.

A picture is a function of (seed, class, split, number), so any worker of any
process draws the same one, and 5 training pictures a class are the first 5 of 20.
Small ones are remembered by the process that drew them, as every epoch reads them again.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

from PIL import Image

from mpfgvc.birds.plumage import Plumage, Species, all_species
from mpfgvc.birds.scene import Picture, draw_image, draw_picture
from mpfgvc.config import MOST_PICTURES, BirdsConfig
from mpfgvc.data.samples import SPLITS, PhotoSet, Sample, Samples, Split

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


@dataclass(frozen=True, kw_only=True, eq=False)
class DrawnSamples(Samples):
    """Pictures whose names say what is drawn: `synthetic/CLASS/train_0001.png`."""

    birds: BirdsConfig

    def sample(self, index: int) -> DrawnSample:
        """One picture. Raises IndexError."""
        path, label = self.path(index), int(self.labels[index])
        drawn_for, _, number = path.stem.partition("_")
        return DrawnSample(
            path=path,
            label=label,
            split=SPLITS[self.splits[index]],
            plumage=all_species(self.birds.species)[label].plumage,
            seed=self.birds.seed,
            index=(2 * label + (drawn_for == "test")) * MOST_PICTURES + int(number) - 1,
            size=self.birds.image_size,
        )


def read_birds(config: BirdsConfig) -> PhotoSet:
    """The benchmark: training and test pictures of every class, in the order of the classes."""
    species = all_species(config.species)
    counts: dict[Split, int] = {"train": config.train, "test": config.test}
    rows = [
        (f"synthetic/{folder_name(kind)}/{split}_{number + 1:04d}.png", kind.index, split)
        for kind in species
        for split, count in counts.items()
        for number in range(count)
    ]
    columns = vars(Samples.of(None, rows))
    return PhotoSet(
        name="synthetic birds",
        classes=tuple(kind.name for kind in species),
        samples=DrawnSamples(birds=config, **columns),
        supercategory="bird",
    )


def folder_name(species: Species) -> str:
    """The class's name as CUB writes it: `001.Common_Thornbill`."""
    return f"{species.index + 1:03d}.{species.name.replace(' ', '_')}"


@lru_cache(maxsize=REMEMBERED)
def _draw(plumage: Plumage, seed: int, index: int, size: int) -> Image.Image:
    return draw_image(plumage, seed=seed, index=index, size=size)
