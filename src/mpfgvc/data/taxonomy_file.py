"""A taxonomy from a file: `data.taxonomy`.

    class,order,family,genus               a CSV file: a row for each class, a column for each level
    Rock Wren,Passeriformes,Troglodytidae,Salpinctes
    hierarchy.txt                          of NABirds: `child parent` by number, with classes.txt beside it
    folders                                nested class folders: order/family/class/photograph.jpg

Class names are compared by how they look, tidied as the reader of CUB tidies them if need be. The column
`class_id` is no level, and neither is one in which every class is a group of its own. A blank cell makes the
class a group of its own. A file may hold more classes than the dataset.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mpfgvc.config import NESTED_FOLDERS
from mpfgvc.data.names import bird_name, look, nabird_name
from mpfgvc.data.readers.index_files import read_names, read_numbers, read_text
from mpfgvc.data.readers.tables import read_csv_rows
from mpfgvc.data.samples import PhotoSet, counted
from mpfgvc.data.taxonomy import CLASS, Taxonomy, filled
from mpfgvc.errors import CheckpointError, ConfigError, DataError
from mpfgvc.files import check_digest, write_with_digest
from mpfgvc.run_folder import RunFolder

HIERARCHY = "hierarchy.txt"
_NUMBERS = "class_id"


@dataclass(frozen=True, kw_only=True)
class ReadTaxonomy:
    """A taxonomy of some classes, and lines for people about what was left out."""

    taxonomy: Taxonomy
    notes: tuple[str, ...] = ()


def read_taxonomy(source: str | Path, classes: Sequence[str]) -> ReadTaxonomy:
    """The tree above `classes` in a file.

    Raises ConfigError for a path that is no such file, DataError for a class that the file does not have, for
    rows that contradict each other, and for a tree without any level.
    """
    path = Path(source).expanduser()
    if path.name == HIERARCHY:
        paths = _nabirds_paths(path)
    elif path.suffix.lower() == ".csv":
        paths = _csv_paths(path)
    else:
        raise ConfigError(f"data.taxonomy must be a .csv file, NABirds' {HIERARCHY}, or folders, got {path}")
    return _of_classes(path, paths, classes)


def with_taxonomy(photos: PhotoSet, source: str | None) -> PhotoSet:
    """The photographs with the tree of a file, and its notes. They keep that of their folders, or none.

    Raises what `read_taxonomy` raises.
    """
    if source is None or source == NESTED_FOLDERS:
        return photos
    found = read_taxonomy(source, photos.classes)
    return replace(photos, taxonomy=found.taxonomy, notes=(*photos.notes, *found.notes))


def save_taxonomy(taxonomy: Taxonomy, classes: Sequence[str], path: Path) -> None:
    """Write a CSV file that `read_taxonomy` reads, with its digest. Raises OutputError."""
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow([CLASS, *reversed(taxonomy.levels)])
    for label, name in enumerate(classes):
        rows.writerow([look(name), *(groups[label] for groups in reversed(taxonomy.groups))])
    write_with_digest(path, text.getvalue().encode())


def taxonomy_of_run(folder: RunFolder, classes: Sequence[str]) -> Taxonomy | None:
    """The taxonomy that a run keeps, None if it has none. Raises CheckpointError if its file was changed."""
    if not folder.taxonomy.is_file():
        return None
    check_digest(folder.taxonomy)
    try:
        return read_taxonomy(folder.taxonomy, classes).taxonomy
    except DataError as error:
        raise CheckpointError(f"{error}; restore the file from a copy") from None


@dataclass(frozen=True, kw_only=True)
class _Paths:
    """Levels from coarse to fine, and the path of each class in the file by its name."""

    levels: tuple[str, ...]
    of_class: Mapping[str, tuple[str, ...]]


def _csv_paths(path: Path) -> _Paths:
    text = read_text(path, "data.taxonomy")
    of_class: dict[str, tuple[str, ...]] = {}
    levels: tuple[str, ...] = ()
    for row in read_csv_rows(path, text, needed=(CLASS,), known=(CLASS,)):
        name = look(row.cells[CLASS])
        if not name:
            raise DataError(f"{row.where} names no class; fill it in or remove the row")
        if name in of_class:
            raise DataError(f"{row.where} repeats the class {name}; remove one of the two rows")
        levels = tuple(column for column in row.cells if column not in (CLASS, _NUMBERS))
        of_class[name] = tuple(look(row.cells[level]) or name for level in levels)
    return _Paths(levels=levels, of_class=of_class)


def _nabirds_paths(path: Path) -> _Paths:
    """The tree of NABirds: levels are counted from the root, for its nodes have no ranks."""
    parents = {int(child): parent for child, parent in read_numbers(path).items()}
    names = {number: nabird_name(name) for number, name in read_names(path.with_name("classes.txt")).items()}
    leaves = sorted(names.keys() - set(parents.values()))
    above = {leaf: _ancestors(leaf, parents, path) for leaf in leaves}
    depth = max((len(each) for each in above.values()), default=0)
    return _Paths(
        levels=tuple(f"level {index}" for index in range(1, depth + 1)),
        of_class={
            names[leaf]: tuple(filled([names[node] for node in nodes], names[leaf], depth))
            for leaf, nodes in above.items()
        },
    )


def _ancestors(leaf: int, parents: Mapping[int, int], path: Path) -> list[int]:
    """The nodes between the root and a leaf, from above."""
    nodes, node = [], leaf
    while (node := parents.get(node, -1)) >= 0 and node in parents:
        if node in nodes:
            raise DataError(f"{path}: node {node} is above itself; restore the file")
        nodes.append(node)
    return nodes[::-1]


def _of_classes(path: Path, paths: _Paths, classes: Sequence[str]) -> ReadTaxonomy:
    by_name = {look(name): each for name, each in paths.of_class.items()}
    for name, each in paths.of_class.items():  # CUB's own spelling, where the reader has tidied it
        by_name.setdefault(look(bird_name(name)), each)
    missing = [name for name in classes if look(name) not in by_name]
    if missing:
        raise DataError(f"{counted(f'classes that {path} does not have', missing, len(classes))}; add them")
    rows = [by_name[look(name)] for name in classes]
    columns = {level: tuple(row[index] for row in rows) for index, level in enumerate(paths.levels)}
    sizes = {level: len(set(column)) for level, column in columns.items()}
    finest_first = sorted(columns, key=lambda level: (-sizes[level], -paths.levels.index(level)))
    levels = tuple(level for level in finest_first if sizes[level] < len(classes))
    if not levels:
        raise DataError(f"{path} has no level that joins two of the {len(classes)} classes; leave it out")
    try:
        taxonomy = Taxonomy(levels=levels, groups=tuple(columns[level] for level in levels))
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    dropped = [level for level in paths.levels if level not in levels]
    what = f"levels of {path} in which every class is a group of its own, left out"
    return ReadTaxonomy(taxonomy=taxonomy, notes=(counted(what, dropped),) if dropped else ())
