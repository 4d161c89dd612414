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

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from mpfgvc.birds.plumage import ATTRIBUTES, PARTS, Species, all_species, caption
from mpfgvc.birds.scene import Picture
from mpfgvc.config import BirdsConfig
from mpfgvc.data.descriptions import bird_descriptions
from mpfgvc.data.readers.birds import DrawnSample, folder_name, read_birds
from mpfgvc.errors import OutputError
from mpfgvc.files import make_folder, new_folder, write_text
from mpfgvc.progress import Bar

_VALUES = [(name, value) for name, values in ATTRIBUTES.items() for value in values]


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """What the lists say about one image; `parts` are the middles of those that can be seen."""

    sample: DrawnSample
    name: str
    box: tuple[int, int, int, int]
    parts: dict[str, tuple[float, float]]


def synthesize(out: Path, config: BirdsConfig) -> int:
    """Write the dataset to the new folder `out`, whole or not at all; returns the number of images.

    Raises OutputError if `out` exists or cannot be written.
    """
    if out.exists():
        raise OutputError(f"cannot write {out}: it exists already; choose another --out")
    samples = [sample for sample in read_birds(config).samples if isinstance(sample, DrawnSample)]
    species = all_species(config.species)
    make_folder(out.parent)
    with new_folder(out) as folder:
        entries = []
        bar = Bar("draw", total=len(samples))
        for sample in samples:
            entries.append(_draw(sample, species[sample.label], folder))
            bar.advance(1)
        bar.close()
        _write_lists(folder, entries, species)
        _write_parts(folder, entries)
        _write_attributes(folder, entries)
    return len(entries)


def _draw(sample: DrawnSample, species: Species, folder: Path) -> _Entry:
    picture = sample.picture()
    name = f"{folder_name(species)}/{sample.path.name}"
    for kind, image in (("images", picture.image), ("regions", Image.fromarray(picture.regions))):
        file = folder / kind / name
        file.parent.mkdir(parents=True, exist_ok=True)
        image.save(file)
    return _Entry(sample=sample, name=name, box=picture.box, parts=dict(_middles(picture)))


def _middles(picture: Picture) -> Iterator[tuple[str, tuple[float, float]]]:
    for part in PARTS:
        rows, columns = np.nonzero(picture.part_mask(part))
        if len(rows):
            yield part, (float(columns.mean()), float(rows.mean()))


def _write_lists(folder: Path, entries: Sequence[_Entry], species: Sequence[Species]) -> None:
    images = list(enumerate(entries, start=1))
    _write(folder / "images.txt", [f"{number} {entry.name}" for number, entry in images])
    _write(folder / "classes.txt", [f"{kind.index + 1} {folder_name(kind)}" for kind in species])
    labels = [f"{number} {entry.sample.label + 1}" for number, entry in images]
    _write(folder / "image_class_labels.txt", labels)
    splits = [f"{number} {int(entry.sample.split == 'train')}" for number, entry in images]
    _write(folder / "train_test_split.txt", splits)
    boxes = [" ".join(f"{value:.1f}" for value in entry.box) for entry in entries]
    _write(folder / "bounding_boxes.txt", [f"{number} {box}" for number, box in enumerate(boxes, start=1)])
    captions = [f"{number} {caption(entry.sample.plumage)}" for number, entry in images]
    _write(folder / "captions.txt", captions)
    neighbours = [f"{kind.index + 1} {kind.neighbour + 1} {','.join(kind.differing)}" for kind in species]
    _write(folder / "neighbours.txt", neighbours)
    write_text(folder / "descriptions.csv", bird_descriptions(species).to_csv())


def _write_parts(folder: Path, entries: Sequence[_Entry]) -> None:
    """CUB's `<image> <part> <x> <y> <visible>`; a hidden part is at 0 0."""
    (folder / "parts").mkdir()
    _write(folder / "parts/parts.txt", [f"{number} {part}" for number, part in enumerate(PARTS, start=1)])
    lines = []
    for image, entry in enumerate(entries, start=1):
        for number, part in enumerate(PARTS, start=1):
            x, y = entry.parts.get(part, (0.0, 0.0))
            lines.append(f"{image} {number} {x:.1f} {y:.1f} {int(part in entry.parts)}")
    _write(folder / "parts/part_locs.txt", lines)


def _write_attributes(folder: Path, entries: Sequence[_Entry]) -> None:
    """CUB's `<image> <attribute> <present> <certainty> <seconds>`; here always certain (4), in no time."""
    (folder / "attributes").mkdir()
    names = [f"{number} has_{name}::{value}" for number, (name, value) in enumerate(_VALUES, start=1)]
    _write(folder / "attributes/attributes.txt", names)
    lines = []
    for image, entry in enumerate(entries, start=1):
        for number, (name, value) in enumerate(_VALUES, start=1):
            lines.append(f"{image} {number} {int(getattr(entry.sample.plumage, name) == value)} 4 0.0")
    _write(folder / "attributes/image_attribute_labels.txt", lines)


def _write(file: Path, lines: Sequence[str]) -> None:
    write_text(file, "\n".join(lines) + "\n")
