"""Sentences about the classes, from a CSV or YAML file: `model.descriptions` (beyond the paper).

    class,sentence                          Rock Wren:
    Rock Wren,a bird with a thin beak         - a bird with a thin beak
    Rock Wren,a bird with a white belly       - a bird with a white belly
                                            Barn Owl: a bird with a pale face

CSV has one row for each sentence, YAML one sentence or a list of them. `bundled` stands for the sentences of
the synthetic birds: one for each attribute. Class names are compared by how they look (names.py).
A class without sentences is allowed, and so are sentences about classes that the dataset does not
have: a field guide describes more birds than a subset holds. Both are counted and said.

A run keeps the sentences of its classes as CSV, so it can be resumed without the file.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from mpfgvc.birds.plumage import ATTRIBUTES, Species, all_species, caption
from mpfgvc.config import BUNDLED_DESCRIPTIONS
from mpfgvc.data.names import look
from mpfgvc.data.readers.index_files import read_text
from mpfgvc.data.readers.tables import read_csv_rows, text_of
from mpfgvc.data.samples import counted
from mpfgvc.errors import CheckpointError, ConfigError, DataError
from mpfgvc.files import check_digest, write_with_digest
from mpfgvc.recipes_io import yaml_root
from mpfgvc.run_folder import RunFolder

_COLUMNS = ("class", "sentence")
_YAML = (".yaml", ".yml")
_NULL = "tag:yaml.org,2002:null"


@dataclass(frozen=True, kw_only=True)
class Descriptions:
    """The sentences about each class, none for some; `notes` are lines for people.

    Those of a run without descriptions are `NO_DESCRIPTIONS`.
    """

    classes: tuple[str, ...] = ()
    sentences: tuple[tuple[str, ...], ...] = ()
    notes: tuple[str, ...] = ()

    def save(self, path: Path) -> None:
        """Write the sentences with a digest, as a run keeps them, if there are some. Raises OutputError."""
        if self.sentences:
            write_with_digest(path, self.to_csv().encode())

    def to_csv(self) -> str:
        """The sentences as a CSV file that `read_descriptions` reads."""
        text = io.StringIO(newline="")
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(_COLUMNS)
        for name, sentences in zip(self.classes, self.sentences, strict=True):
            rows.writerows((look(name), sentence) for sentence in sentences)
        return text.getvalue()


NO_DESCRIPTIONS = Descriptions()


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """One sentence about one class; `where` names the file and the line."""

    where: str
    name: str
    sentence: str


def read_descriptions(source: str | Path | None, classes: Sequence[str]) -> Descriptions:
    """The sentences of a file, or the bundled ones, about `classes`; None for a model without them.

    Raises ConfigError for a path that is no such file, DataError naming the line for a sentence that is
    empty or comes twice, and for sentences about none of the classes.
    """
    if source is None:
        return NO_DESCRIPTIONS
    if source == BUNDLED_DESCRIPTIONS:
        return _bundled(classes)
    path = Path(source).expanduser()
    described: dict[str, list[str]] = {}
    names: dict[str, str] = {}
    for entry in _checked(path, _entries(path)):
        described.setdefault(look(entry.name), []).append(entry.sentence)
        names.setdefault(look(entry.name), entry.name)
    known = {look(name) for name in classes}
    unknown = [name for key, name in names.items() if key not in known]
    _refuse_strangers(path, len(described) - len(unknown), unknown, classes)
    what = f"classes of {path} that the dataset does not have"
    notes = [counted(what, unknown, len(described))] if unknown else []
    return _of_classes(classes, described, notes)


def descriptions_of_run(folder: RunFolder, source: str | None, classes: Sequence[str]) -> Descriptions:
    """The sentences that a run keeps of `source`, which may be gone by now.

    Raises CheckpointError if the run's own file is missing or was changed.
    """
    if source is None:
        return NO_DESCRIPTIONS
    if not folder.descriptions.is_file():
        hint = "restore it from a copy, or start a new run with another --out"
        raise CheckpointError(f"{folder.descriptions} is missing, and the run has descriptions; {hint}")
    check_digest(folder.descriptions)
    return read_descriptions(folder.descriptions, classes)


def bird_descriptions(species: Sequence[Species]) -> Descriptions:
    """The sentences of synthetic birds: one for each attribute of a class."""
    return Descriptions(
        classes=tuple(kind.name for kind in species),
        sentences=tuple(tuple(caption(kind.plumage, (attribute,)) for attribute in ATTRIBUTES) for kind in species),
    )


def _bundled(classes: Sequence[str]) -> Descriptions:
    birds = bird_descriptions(all_species())
    described = {look(name): each for name, each in zip(birds.classes, birds.sentences, strict=True)}
    if not any(look(name) in described for name in classes):
        rule = "describes the synthetic birds only, and none of these classes is one"
        raise ConfigError(f"model.descriptions: bundled {rule} (first {classes[0]}); give a CSV or YAML file")
    return _of_classes(classes, described, [])


def _of_classes(classes: Sequence[str], described: Mapping[str, Sequence[str]], notes: Sequence[str]) -> Descriptions:
    sentences = tuple(tuple(described.get(look(name), ())) for name in classes)
    without = [name for name, each in zip(classes, sentences, strict=True) if not each]
    what = "classes without a description, which have their prompt alone"
    own = [counted(what, without, len(classes))] if without else []
    return Descriptions(classes=tuple(classes), sentences=sentences, notes=(*notes, *own))


def _entries(path: Path) -> Iterator[_Entry]:
    kind = path.suffix.lower()
    if kind not in (".csv", *_YAML):
        rule = f"must be a .csv, .yaml or .yml file, or {BUNDLED_DESCRIPTIONS}"
        raise ConfigError(f"model.descriptions {rule}, got {path}")
    text = read_text(path, "model.descriptions")
    return _yaml_entries(path, text) if kind in _YAML else _csv_entries(path, text)


def _csv_entries(path: Path, text: str) -> Iterator[_Entry]:
    for row in read_csv_rows(path, text, needed=_COLUMNS, known=_COLUMNS):
        name, sentence = (text_of(row.cells[column], f"{row.where}: {column}") for column in _COLUMNS)
        yield _Entry(where=row.where, name=name, sentence=sentence)


def _yaml_entries(path: Path, text: str) -> Iterator[_Entry]:
    root = _yaml_root(path, text)
    lines: dict[str, int] = {}
    for key, value in root.value:
        line = key.start_mark.line + 1
        if not isinstance(key, ScalarNode):
            raise DataError(f"{path} line {line}: a class must be a name; put quotes around it")
        if (before := lines.get(look(key.value))) is not None:
            raise DataError(f"{path} line {line} repeats the class {key.value} of line {before}; join the two")
        lines[look(key.value)] = line
        for node in value.value if isinstance(value, SequenceNode) and value.value else [value]:
            where = f"{path} line {node.start_mark.line + 1}"
            yield _Entry(where=where, name=key.value, sentence=_yaml_sentence(node, where))


def _yaml_root(path: Path, text: str) -> MappingNode:
    root = yaml_root(text, str(path), DataError)
    if not isinstance(root, MappingNode):
        raise DataError(f"{path} must hold classes with their sentences, such as `Rock Wren: a brown bird`")
    return root


def _yaml_sentence(node: Node, where: str) -> str:
    """The text of a node; a sentence over several lines is joined."""
    if isinstance(node, ScalarNode):
        return "" if node.tag == _NULL and not node.style else node.value
    if isinstance(node, SequenceNode) and not node.value:
        return ""
    raise DataError(f"{where}: must be a sentence; put quotes around one that holds a colon or begins with [")


def _checked(path: Path, entries: Iterable[_Entry]) -> Iterator[_Entry]:
    """The entries on one line each, or a DataError for one that is empty or comes twice."""
    first: dict[tuple[str, str], str] = {}
    for entry in entries:
        name, sentence = entry.name.strip(), " ".join(entry.sentence.split())
        if not look(name) or not look(sentence):
            what = "class" if not look(name) else f"sentence about {name}"
            raise DataError(f"{entry.where} has no {what}; fill it in or remove it")
        key = (look(name), sentence)
        if key in first:
            rule = f"repeats a sentence about {name} of {first[key]}"
            raise DataError(f"{entry.where} {rule}; remove one of the two")
        first[key] = entry.where
        yield _Entry(where=entry.where, name=name, sentence=sentence)
    if not first:
        raise DataError(f"{path} holds no sentence; write some, or set model.descriptions to null")


def _refuse_strangers(path: Path, found: int, unknown: Sequence[str], classes: Sequence[str]) -> None:
    if not found and unknown:
        names = f"it describes {unknown[0]!r}, the first class of the dataset is {classes[0]!r}"
        raise DataError(f"{path} describes none of the {len(classes)} classes: {names}; use the same names")
