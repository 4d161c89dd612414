"""The datasets by name: who reads them, what they are called, how large they officially are."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, Protocol

from mpfgvc.config import NESTED_FOLDERS, DataConfig
from mpfgvc.data.listing import check_is_local, readable
from mpfgvc.data.names import capitals_notes
from mpfgvc.data.readers.birds import read_birds
from mpfgvc.data.readers.folders import read_folders
from mpfgvc.data.readers.official import read_cub, read_dogs, read_flowers102, read_food101, read_nabirds
from mpfgvc.data.readers.shards import read_shards
from mpfgvc.data.readers.tables import read_manifest
from mpfgvc.data.samples import SPLITS, PhotoSet, counted
from mpfgvc.data.split import hold_out
from mpfgvc.errors import ConfigError, DataError


class Reader(Protocol):
    """Reads an official layout."""

    def __call__(self, root: Path, *, check_files: bool = True) -> PhotoSet:
        """The photographs below `root`."""


class OfficialDataset(NamedTuple):
    """A published dataset: its reader, the word that ends its class prompts, and its official counts."""

    title: str
    read: Reader
    supercategory: str
    classes: int
    train: int
    test: int
    names: str | None
    """The beginning of the SHA-256 of its class names, one a line, in their official order; None without names."""
    validation: int = 0
    """Photographs of a validation split of its own."""


OFFICIAL: dict[str, OfficialDataset] = {
    "cub": OfficialDataset("CUB-200-2011", read_cub, "bird", 200, 5994, 5794, "a7bc058a7a945cf8"),
    "dogs": OfficialDataset("Stanford Dogs", read_dogs, "dog", 120, 12000, 8580, "82c338c86ba1f5e5"),
    "nabirds": OfficialDataset("NABirds", read_nabirds, "bird", 555, 23929, 24633, "3518b76d776c0948"),
    "food101": OfficialDataset("Food-101", read_food101, "dish", 101, 75750, 25250, "513e7f6450e69cc6"),
    "flowers102": OfficialDataset("Oxford Flowers-102", read_flowers102, "flower", 102, 1020, 6149, None, 1020),
}


def read_photos(config: DataConfig, *, seed: int, check_files: bool = True, skip_empty: bool = False) -> PhotoSet:
    """The dataset that the settings name, with a validation split.

    Where the dataset has none of its own, `config.validation` of the training
    photographs are held out, class by class. `check_files=False` reads an index
    without looking for the images. `skip_empty` leaves out class folders without photographs.

    Raises ConfigError for a root or manifest that is not set, DataError for
    everything that is wrong with the data.
    """
    photos = _read(config, seed=seed, check_files=check_files, skip_empty=skip_empty)
    if len(photos.classes) < 2:
        raise DataError(f"{photos.name} must have at least 2 classes, got {len(photos.classes)}; check data.root")
    if not photos.subset("validation"):
        photos = replace(photos, samples=hold_out(photos.samples, config.validation, seed))
    notes = [*photos.notes, *capitals_notes(photos.classes)]
    for split in SPLITS:
        counts = photos.subset(split).counts(len(photos.classes))
        lacking = [name for name, count in zip(photos.classes, counts, strict=True) if count == 0]
        if 0 < len(lacking) < len(counts):
            notes.append(counted(f"classes without a photograph for {split}", lacking, len(counts)))
    return replace(photos, notes=tuple(notes))


def dataset_root(config: DataConfig) -> Path | None:
    """The folder that the paths of a dataset start from; None for synthetic birds, which have no files.

    Raises ConfigError if the settings name none.
    """
    if config.dataset == "synthetic":
        return None
    if config.root is not None:
        check_is_local("data.root", config.root)
        return Path(config.root).expanduser()
    if config.dataset == "manifest":
        return manifest_file(config).parent
    hint = "give the folder of the photographs: --data.root my_photos/"
    raise ConfigError(f"data.root is not set; {hint}")


def manifest_file(config: DataConfig) -> Path:
    """The table of a dataset that is one. Raises ConfigError if the settings name none."""
    if config.manifest is None:
        raise ConfigError("data.manifest is not set; give a CSV or Parquet file: --data.manifest photos.csv")
    return Path(config.manifest)


def existing_folder(root: Path) -> Path:
    """The folder itself. Raises DataError if there is none at `root`, or if it may not be looked for."""
    with readable(root.parent):
        if root.is_dir():
            return root
        what = "is a file" if root.exists() else "does not exist"
    raise DataError(f"data.root must be a folder, got {root}, which {what}; check the path")


def moved(config: DataConfig, *, root: str | Path | None, manifest: str | Path | None) -> DataConfig:
    """The settings of a dataset that is elsewhere now; None leaves a setting as it is."""
    return config.replaced(
        root=str(root) if root else config.root, manifest=str(manifest) if manifest else config.manifest
    )


def _read(config: DataConfig, *, seed: int, check_files: bool, skip_empty: bool) -> PhotoSet:
    root = dataset_root(config)
    if root is None:
        return read_birds(config.birds)
    if config.dataset == "manifest":
        manifest = manifest_file(config)
        root = root if config.root is None else existing_folder(root)
        return read_manifest(manifest, root, test_share=config.test, seed=seed, check_files=check_files)
    existing_folder(root)
    if config.dataset == "shards":
        return read_shards(root, test_share=config.test, seed=seed)
    if config.dataset == "folder":
        nested = config.taxonomy == NESTED_FOLDERS
        return read_folders(root, test_share=config.test, seed=seed, nested=nested, skip_empty=skip_empty)
    official = OFFICIAL[config.dataset]
    photos = official.read(root, check_files=check_files)
    return replace(
        photos, supercategory=official.supercategory, notes=(*photos.notes, *_subset_notes(photos, official))
    )


def official_counts(dataset: str, photos: PhotoSet) -> str | None:
    """The counts and the names of a published dataset that is complete, as a line; None for any other.

    It is complete whatever of its training photographs was held out for validation.
    """
    official, test = OFFICIAL.get(dataset), len(photos.subset("test"))
    counts = len(photos.classes), len(photos.samples) - test, test
    if official is None or counts != (official.classes, official.train + official.validation, official.test):
        return None
    line = f"{official.classes} classes, {official.train} training and {official.test} test photographs"
    if official.names is None:
        return f"{line}, as {official.title} has them"
    if hashlib.sha256("\n".join(photos.classes).encode()).hexdigest().startswith(official.names):
        return f"{line}, with the names and the order of classes of {official.title}"
    return f"{line}, as {official.title} has them, but its classes have other names or another order"


def _subset_notes(photos: PhotoSet, official: OfficialDataset) -> tuple[str, ...]:
    counts = {
        "classes": (len(photos.classes), official.classes),
        "training images": (len(photos.subset("train")), official.train),
        "test images": (len(photos.subset("test")), official.test),
    }
    if all(count == whole for count, whole in counts.values()):
        return ()
    parts = ", ".join(f"{count} of the {whole} {what}" for what, (count, whole) in counts.items())
    return (f"a subset: {parts} of {official.title}",)
