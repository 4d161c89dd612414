"""A taxonomy from a file: `data.taxonomy`.

    class,order,family,genus               a CSV file: a row for each class, a column for each level
    Rock Wren,Passeriformes,Troglodytidae,Salpinctes
    hierarchy.txt                          of NABirds: `child parent` by number, with classes.txt beside it
    folders                                nested class folders: order/family/class/photograph.jpg

The classes are in the column that names most of them, whatever its heading: a biologist's column `class` is a
rank. Names are compared by how they look, tidied as the reader of CUB tidies them if need be. The column
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
from mpfgvc.data.readers.index_files import read_names, read_numbers
from mpfgvc.data.readers.tables import read_csv_rows
from mpfgvc.data.samples import PhotoSet, counted
from mpfgvc.data.taxonomy import CLASS, Taxonomy, filled
from mpfgvc.errors import CheckpointError, ConfigError, DataError
from mpfgvc.files import check_digest, write_with_digest
from mpfgvc.run_folder import RunFolder

HIERARCHY = "hierarchy.txt"
_NUMBERS = "class_id"
_RANK = "taxonomic class"
"""What the rank `class` is called, as `class` is the level of the classes."""
_RANKS = (
    "species",
    "genus",
    "tribe",
    "subfamily",
    "family",
    "suborder",
    "order",
    _RANK,
    "phylum",
    "division",
    "kingdom",
)
"""Which of two levels with the same groups is the finer one."""


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
    notes: list[str] = []
    if path.name == HIERARCHY:
        levels, groups = _nabirds(path)
    elif path.suffix.lower() == ".csv":
        levels, groups = _csv(path, classes, notes)
    else:
        raise ConfigError(f"data.taxonomy must be a .csv file, NABirds' {HIERARCHY}, or folders, got {path}")
    for name in list(groups):  # CUB's own spelling, where the reader has tidied it
        groups.setdefault(look(bird_name(name)), groups[name])
    missing = [name for name in classes if look(name) not in groups]
    if missing:
        raise DataError(f"{counted(f'classes that {path} does not have', missing, len(classes))}; add them")
    columns = dict(zip(levels, zip(*(groups[look(name)] for name in classes), strict=True), strict=True))
    sizes = {level: len(set(column)) for level, column in columns.items()}
    kept = sorted(
        (level for level in columns if sizes[level] < len(classes)),
        key=lambda level: (-sizes[level], _RANKS.index(level) if level in _RANKS else 0, -levels.index(level)),
    )
    if not kept:
        raise DataError(f"{path} has no level that joins two of the {len(classes)} classes; leave it out")
    dropped = [level for level in levels if level not in kept]
    if dropped:
        notes.append(counted(f"levels of {path} in which every class is a group of its own, left out", dropped))
    try:
        taxonomy = Taxonomy(levels=tuple(kept), groups=tuple(columns[level] for level in kept))
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    return ReadTaxonomy(taxonomy=taxonomy, notes=tuple(notes))


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


def _csv(path: Path, classes: Sequence[str], notes: list[str]) -> tuple[list[str], dict[str, Sequence[str]]]:
    """The levels from coarse to fine, and the groups of each class in the file by what its name looks like."""
    rows = list(read_csv_rows(path, "data.taxonomy"))
    if not rows:
        raise DataError(f"{path} has no rows; give one for each class")
    wanted = {look(name) for name in classes}

    def named(column: str) -> tuple[int, bool]:
        cells = [look(cells[column]) for _, cells in rows]
        return len(wanted & {*cells, *map(bird_name, cells)}), column == CLASS

    names = max(rows[0][1], key=named)
    if names != CLASS:
        notes.append(f"the classes are in the column {names} of {path}")
    levels = [column for column in rows[0][1] if column not in (names, _NUMBERS)]
    groups: dict[str, Sequence[str]] = {}
    for where, cells in rows:
        name = look(cells[names])
        if not name:
            raise DataError(f"{where} names no class; fill it in or remove the row")
        if name in groups:
            raise DataError(f"{where} repeats the class {name}; remove one of the two rows")
        groups[name] = [look(cells[level]) or name for level in levels]
    return [_RANK if level == CLASS else level for level in levels], groups


def _nabirds(path: Path) -> tuple[list[str], dict[str, Sequence[str]]]:
    """The tree of NABirds: levels are counted from the root, for its nodes have no ranks."""
    parents = {int(child): parent for child, parent in read_numbers(path, "data.taxonomy").items()}
    names = {number: nabird_name(name) for number, name in read_names(path.with_name("classes.txt")).items()}
    above = {leaf: _ancestors(leaf, parents, path) for leaf in sorted(names.keys() - set(parents.values()))}
    depth = max(map(len, above.values()), default=0)
    groups = {
        look(names[leaf]): filled([names[node] for node in nodes], names[leaf], depth) for leaf, nodes in above.items()
    }
    return [f"level {index}" for index in range(1, depth + 1)], dict(groups)


def _ancestors(leaf: int, parents: Mapping[int, int], path: Path) -> list[int]:
    """The nodes between the root and a leaf, from above."""
    nodes, node = [], leaf
    while (node := parents.get(node, -1)) >= 0 and node in parents:
        if node in nodes:
            raise DataError(f"{path}: node {node} is above itself; restore the file")
        nodes.append(node)
    return nodes[::-1]
