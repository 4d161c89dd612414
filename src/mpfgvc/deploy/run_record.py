"""What a finished run says about itself: its data, its test, its training. Names no folder of this machine.

The model card (model_card.py) is written from it. A run that is not finished has no record.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mpfgvc.config import Config, Precision, Source
from mpfgvc.config_paths import without_folders
from mpfgvc.data.catalog import OFFICIAL
from mpfgvc.data.photo_list import PhotoList
from mpfgvc.data.samples import Split
from mpfgvc.errors import CheckpointError, ConfigError
from mpfgvc.evaluation.answers import load_answers
from mpfgvc.evaluation.statistics import Interval, accuracy_interval, refuse_missing_scipy
from mpfgvc.inference.strict_json import read_json, typed
from mpfgvc.run_environment import Environment
from mpfgvc.run_folder import RunFolder
from mpfgvc.storage.metric_rows import training_seconds

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
OWN_DATASETS = ("folder", "manifest")
"""Datasets whose name is that of a folder or file of their owner, so it is not told."""
_MOST_BYTES = 2**24


@dataclass(frozen=True, kw_only=True)
class SplitCount:
    """Photographs of a split, and of its smallest and its largest class."""

    split: Split
    photographs: int
    fewest: int
    most: int


@dataclass(frozen=True, kw_only=True)
class SourceScore:
    """How one source of logits did in the test; accuracies in 0..1.

    `interval` is that of `top1` over photographs; None if it cannot be told.
    """

    source: str
    top1: float
    top5: float
    mean_class: float
    interval: Interval | None


@dataclass(frozen=True, kw_only=True)
class TestScores:
    """The test of a run: photographs, the source that the model answers with, and every source."""

    count: int
    prediction: Source
    precision: Precision
    sources: tuple[SourceScore, ...]

    @property
    def main(self) -> SourceScore:
        """The score of what the model answers with."""
        return next(score for score in self.sources if score.source == self.prediction)


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """A finished run, told to others."""

    config: Config
    """Its settings, without folders."""
    dataset: str
    splits: tuple[SplitCount, ...]
    """Those with photographs; none for a run of a version that did not store its split."""
    test: TestScores | None
    """None for a run without a test."""
    seconds: float | None
    """Wall time of all epochs and embedding passes."""
    environment: Environment | None
    notes: tuple[str, ...] = ()
    """What could not be told, and why."""


@dataclass(frozen=True, kw_only=True)
class _Accuracies:
    top1: float
    top5: float
    mean_class: float


def read_record(folder: RunFolder, *, dataset: str | None = None) -> RunRecord:
    """What a run folder holds; `dataset` is the name to give to the photographs.

    Raises CheckpointError for a run that is not finished, or files that are damaged.
    """
    config = folder.read_config()
    photographs = PhotoList.load(folder.photographs)
    splits = () if photographs is None else tuple(_splits(photographs))
    _refuse_unfinished(folder, config, splits)
    notes: list[str] = []
    return RunRecord(
        config=without_folders(config),
        dataset=dataset or _dataset_name(config, photographs),
        splits=splits,
        test=_test(folder, notes) if folder.evaluation.is_file() else None,
        seconds=_seconds(folder, notes),
        environment=folder.read_environment(),
        notes=tuple(notes),
    )


def _refuse_unfinished(folder: RunFolder, config: Config, splits: tuple[SplitCount, ...]) -> None:
    expects_test = config.final_test and (not splits or any(each.split == "test" for each in splits))
    if expects_test and not folder.evaluation.is_file():
        hint = f"finish it with: mpfgvc train --resume {folder.path}"
        raise CheckpointError(
            f"the run {folder.path} is not finished: it has no {folder.evaluation.name}; {hint}"
        )


def _dataset_name(config: Config, photographs: PhotoList | None) -> str:
    """The name of a published dataset, and how much of it this is if not all; else a word of our own."""
    name = config.data.dataset
    if name in OWN_DATASETS:
        return "own photographs"
    if name not in OFFICIAL or photographs is None:
        return name if photographs is None else photographs.dataset
    official, test = OFFICIAL[name], len(photographs.subset("test"))
    parts = [
        f"{count:,} of {whole:,} {what}"
        for count, whole, what in (
            (len(photographs.classes), official.classes, "classes"),
            (len(photographs.photographs) - test, official.train, "training photographs"),
            (test, official.test, "test photographs"),
        )
        if count != whole
    ]
    return f"{official.title} (subset: {', '.join(parts)})" if parts else official.title


def _splits(photographs: PhotoList) -> Iterator[SplitCount]:
    for split in SPLITS:
        sizes = Counter(photo.label for photo in photographs.subset(split))
        if sizes:
            counts = [sizes[label] for label in range(len(photographs.classes))]
            yield SplitCount(split=split, photographs=sum(counts), fewest=min(counts), most=max(counts))


def _test(folder: RunFolder, notes: list[str]) -> TestScores:
    document = read_json(folder.evaluation, most_bytes=_MOST_BYTES)
    try:
        if not isinstance(document, dict) or not isinstance(document.get("sources"), dict):
            raise ConfigError("sources must be a table")
        count = typed(int, document.get("count"), "count")
        accuracies = {
            name: typed(_Accuracies, values, f"sources.{name}")
            for name, values in document["sources"].items()
        }
        prediction = typed(Source, document.get("prediction"), "prediction")
        if prediction not in accuracies:
            raise ConfigError(f"sources must hold {prediction}")
        precision = typed(Precision, document.get("precision"), "precision")
    except ConfigError as error:
        raise CheckpointError(f"{folder.evaluation}: {error}; restore it from a copy") from None
    intervals = _intervals(folder, count, notes)
    sources = (
        SourceScore(source=name, interval=intervals.get(name), **vars(values))
        for name, values in accuracies.items()
    )
    return TestScores(count=count, prediction=prediction, precision=precision, sources=tuple(sources))


def _intervals(folder: RunFolder, count: int, notes: list[str]) -> dict[str, Interval]:
    """The interval of each source's top-1, where the answers about each photograph are known."""
    file = folder.predictions("test")
    if not file.is_file():
        return {}
    try:
        refuse_missing_scipy()
    except ConfigError:
        notes.append("intervals are left out, as they need scipy: pip install 'mpfgvc[compare]'")
        return {}
    answers = load_answers(file)
    if len(answers.paths) != count:
        what = f"{len(answers.paths)} photographs, {folder.evaluation.name} {count}"
        notes.append(f"intervals are left out, as {file} holds {what}")
        return {}
    seen = np.ones(count, dtype=np.int64)
    return {
        source: accuracy_interval(answers.right(source).astype(np.int64), seen)
        for source in answers.predicted
    }


def _seconds(folder: RunFolder, notes: list[str]) -> float | None:
    try:
        return training_seconds(folder.metrics) or None
    except OSError as error:
        notes.append(f"the time of the training is left out, as {folder.metrics} cannot be read: {error}")
        return None
