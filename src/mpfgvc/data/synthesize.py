"""Write the synthetic birds to disk in the layout of CUB-200-2011: `mpfgvc data synthesize`.

    images/ images.txt classes.txt image_class_labels.txt train_test_split.txt
    bounding_boxes.txt      x y width height in pixels
    parts/                  the middle of each part, and whether it can be seen
    attributes/             one line per image and value: present or not
    captions.txt            every image in words
    descriptions.csv        sentences about every class, for model.descriptions
    regions/                one PNG per image: 1 + the number of the part on top, 0 elsewhere
    neighbours.txt          for each class the one most like it, and what tells the two apart

The first five are read by `data.dataset: cub`; the last four are not CUB's.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
from PIL import Image

from mpfgvc.birds.plumage import ATTRIBUTES, PARTS, all_species, caption
from mpfgvc.config import BirdsConfig
from mpfgvc.data.descriptions import bird_descriptions
from mpfgvc.data.readers.birds import DrawnSample, folder_name, read_birds
from mpfgvc.errors import OutputError
from mpfgvc.files import make_folder, new_folder, write_text
from mpfgvc.progress import Bar

_VALUES = [(name, value) for name, values in ATTRIBUTES.items() for value in values]


def synthesize(out: Path, config: BirdsConfig) -> int:
    """Write the dataset to the new folder `out`, whole or not at all; returns the number of images.

    Raises OutputError if `out` exists or cannot be written.
    """
    if out.exists():
        raise OutputError(f"cannot write {out}: it exists already; choose another --out")
    samples = [sample for sample in read_birds(config).samples if isinstance(sample, DrawnSample)]
    species = all_species(config.species)
    lines: dict[str, list[str]] = defaultdict(list)
    lines["parts/parts"] = [f"{number} {part}" for number, part in enumerate(PARTS, start=1)]
    lines["attributes/attributes"] = [
        f"{row} has_{name}::{value}" for row, (name, value) in enumerate(_VALUES, start=1)
    ]
    for kind in species:
        lines["classes"].append(f"{kind.index + 1} {folder_name(kind)}")
        lines["neighbours"].append(f"{kind.index + 1} {kind.neighbour + 1} {','.join(kind.differing)}")
    make_folder(out.parent)
    with new_folder(out) as folder:
        bar = Bar("draw", total=len(samples))
        for image, sample in enumerate(samples, start=1):
            _draw(image, sample, f"{folder_name(species[sample.label])}/{sample.path.name}", folder, lines)
            bar.advance(1)
        bar.close()
        for name, rows in lines.items():
            make_folder((folder / name).parent)
            write_text(folder / f"{name}.txt", "\n".join(rows) + "\n")
        write_text(folder / "descriptions.csv", bird_descriptions(species).to_csv())
    return len(samples)


def _draw(image: int, sample: DrawnSample, name: str, folder: Path, lines: dict[str, list[str]]) -> None:
    """Write a picture and its regions, and add what the lists say about it."""
    picture = sample.picture()
    for kind, pixels in (("images", picture.image), ("regions", Image.fromarray(picture.regions))):
        file = folder / kind / name
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels.save(file)
    lines["images"].append(f"{image} {name}")
    lines["image_class_labels"].append(f"{image} {sample.label + 1}")
    lines["train_test_split"].append(f"{image} {int(sample.split == 'train')}")
    lines["bounding_boxes"].append(" ".join([str(image), *(f"{value:.1f}" for value in picture.box)]))
    lines["captions"].append(f"{image} {caption(sample.plumage)}")
    for number, part in enumerate(PARTS, start=1):
        rows, columns = np.nonzero(picture.part_mask(part))
        x, y = (columns.mean(), rows.mean()) if len(rows) else (0.0, 0.0)
        lines["parts/part_locs"].append(f"{image} {number} {x:.1f} {y:.1f} {int(len(rows) > 0)}")
    for number, (attribute, value) in enumerate(_VALUES, start=1):
        present = int(getattr(sample.plumage, attribute) == value)
        lines["attributes/image_attribute_labels"].append(f"{image} {number} {present} 4 0.0")
