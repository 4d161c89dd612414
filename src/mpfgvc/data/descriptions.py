"""Sentences about the classes, from a CSV file: `model.descriptions` (beyond the paper).

    class,sentence
    Rock Wren,a bird with a thin beak
    Rock Wren,a bird with a white belly

`bundled` stands for the sentences of the synthetic birds: one for each attribute. Class names are compared by
how they look (names.py). A class without sentences is allowed, and so are sentences about classes that the
dataset does not have: a field guide describes more birds than a subset holds. Both are counted and said.

A run keeps the sentences of its classes, so it can be resumed without the file.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mpfgvc.birds.plumage import ATTRIBUTES, Species, all_species, caption
from mpfgvc.config import BUNDLED_DESCRIPTIONS
from mpfgvc.data.names import look
from mpfgvc.data.readers.tables import read_csv_rows, text_of
from mpfgvc.data.samples import counted
from mpfgvc.errors import CheckpointError, ConfigError, DataError
from mpfgvc.files import check_digest, write_with_digest
from mpfgvc.run_folder import RunFolder

_COLUMNS = ("class", "sentence")


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


def read_descriptions(source: str | Path | None, classes: Sequence[str]) -> Descriptions:
    """The sentences of a file, or the bundled ones, about `classes`; None for a model without them.

    Raises ConfigError for a path that is no such file, DataError naming the line for a sentence that is
    empty or comes twice, and for sentences about none of the classes.
    """
    if source is None:
        return NO_DESCRIPTIONS
    if source == BUNDLED_DESCRIPTIONS:
        birds = bird_descriptions(all_species())
        described = dict(zip(birds.classes, birds.sentences, strict=True))
        unknown: list[str] = []
        if not any(look(name) in described for name in classes):
            rule = "describes the synthetic birds only, and none of these classes is one"
            raise ConfigError(f"model.descriptions: bundled {rule} (first {classes[0]}); give a CSV file")
    else:
        path = Path(source).expanduser()
        described = {name: tuple(sentences) for name, sentences in _read(path).items()}
        known = {look(name) for name in classes}
        unknown = [name for name in described if name not in known]
        if len(unknown) == len(described):
            names = f"it describes {unknown[0]!r}, the first class of the dataset is {classes[0]!r}"
            raise DataError(f"{path} describes none of the {len(classes)} classes: {names}; use the same names")
    sentences = tuple(described.get(look(name), ()) for name in classes)
    without = [name for name, found in zip(classes, sentences, strict=True) if not found]
    notes = []
    if unknown:
        notes.append(counted(f"classes of {source} that the dataset does not have", unknown, len(described)))
    if without:
        notes.append(counted("classes without a description, which have their prompt alone", without, len(classes)))
    return Descriptions(classes=tuple(classes), sentences=sentences, notes=tuple(notes))


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


def _read(path: Path) -> Mapping[str, list[str]]:
    """The sentences about each class, on one line each, by what the name looks like."""
    if path.suffix.lower() != ".csv":
        raise ConfigError(f"model.descriptions must be a .csv file, or {BUNDLED_DESCRIPTIONS}, got {path}")
    first: dict[tuple[str, str], str] = {}
    described: dict[str, list[str]] = {}
    for where, cells in read_csv_rows(path, "model.descriptions", _COLUMNS):
        texts = (text_of(cells[column], f"{where}: {column}") for column in _COLUMNS)
        name, sentence = (" ".join(text.split()) for text in texts)
        key = look(name), sentence
        if not look(name) or not look(sentence):
            what = "class" if not look(name) else f"sentence about {name}"
            raise DataError(f"{where} has no {what}; fill it in or remove it")
        if first.setdefault(key, where) != where:
            raise DataError(f"{where} repeats a sentence about {name} of {first[key]}; remove one of the two")
        described.setdefault(look(name), []).append(sentence)
    if not described:
        raise DataError(f"{path} holds no sentence; write some, or set model.descriptions to null")
    return described
