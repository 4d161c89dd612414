"""The model card: `README.md` of a repository on the Hugging Face hub, written from a finished run.

Front matter in YAML, which the hub reads (library, task, tags, licence, base models, test metrics), then
Markdown for people, from the template `card.md.j2`. Every sentence follows from the run, and none names a
folder of this machine. Names of classes and datasets are anyone's text, so they are escaped.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import yaml

import mpfgvc
from mpfgvc.config import BUNDLED_DESCRIPTIONS, NESTED_FOLDERS, Config
from mpfgvc.data.catalog import OFFICIAL
from mpfgvc.data.photographs_file import load_photos
from mpfgvc.data.samples import PhotoSet, Split
from mpfgvc.errors import CheckpointError, ConfigError, printable
from mpfgvc.evaluation.metrics import load_answers
from mpfgvc.evaluation.statistics import Interval, accuracy_interval, refuse_missing_scipy
from mpfgvc.inference.description import ModelDescription, as_written, parse_json, read_text
from mpfgvc.run_folder import RunFolder, read_rows, training_seconds
from mpfgvc.terms import Precision, Source

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
OWN_DATASETS = ("folder", "manifest")
"""Datasets whose name is that of a folder or file of their owner, so it is not told."""
TAGS = ("fine-grained", "fine-grained-visual-classification", "mp-fgvc", "vision-transformer")
_DATA_OPTIONS = {"synthetic": "", "manifest": " --data.manifest TABLE"}
"""What a training needs beside the recipe; any other dataset needs its folder."""
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|~&$])")


@dataclass(frozen=True, kw_only=True)
class Card:
    """The text of a card, and lines for people: what it could not tell, and why."""

    text: str
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Score:
    """How a source of logits did in the test, 0..1."""

    top1: float
    top5: float
    mean_class: float


@dataclass(frozen=True, kw_only=True)
class Scores:
    """How every source did."""

    vision: Score
    text: Score
    fusion: Score


@dataclass(frozen=True, kw_only=True)
class TestResult:
    """The test of a run: photographs, the source that the model answers with, and every source."""

    count: int
    prediction: Source
    precision: Precision
    sources: Scores

    @property
    def main(self) -> Score:
        """The score of what the model answers with."""
        score: Score = getattr(self.sources, self.prediction)
        return score


def model_card(
    folder: RunFolder,
    description: ModelDescription,
    *,
    repository: str,
    base_models: Sequence[str] = (),
    license_name: str | None = None,
    dataset: str | None = None,
) -> Card:
    """The card of a run whose model is `description`, as `user/name`.

    `license_name` None leaves the licence to the owner; `dataset` is what the photographs are called. Raises
    CheckpointError for a run that is not finished, or files that are damaged.
    """
    config, photographs = folder.read_config(), load_photos(folder.photographs)
    if config.final_test and photographs.subset("test") and not folder.evaluation.is_file():
        hint = f"it has no {folder.evaluation.name}; finish it with: mpfgvc train --resume {folder.path}"
        raise CheckpointError(f"the run {folder.path} is not finished: {hint}")
    dataset, splits, notes = dataset or _dataset_name(config, photographs), _splits(photographs), list[str]()
    test = _test(folder.evaluation) if folder.evaluation.is_file() else None
    text_tower, stored = config.model.text_tower, description.calibration
    knows_text = text_tower.pretrained is not None or text_tower.weights is not None
    front: dict[str, Any] = {
        "library_name": "mpfgvc",
        "pipeline_tag": "image-classification",
        "tags": [*TAGS, *(["clip"] if knows_text else [])],
        "license": license_name,
        "base_model": list(base_models),
        **({} if test is None else _test_metrics(test, repository, config.data.dataset, dataset)),
    }
    text = _template().render(
        front=yaml.safe_dump({k: v for k, v in front.items() if v}, sort_keys=False, allow_unicode=True),
        name=repository.partition("/")[2],
        repository=repository,
        version=mpfgvc.__version__,
        config=config.without_folders(),
        knows_text=knows_text,
        classes=description.classes,
        taxonomy=() if description.taxonomy is None else description.taxonomy.levels,
        preprocessing=description.preprocessing,
        calibration=stored and stored.of(config.model.prediction),
        calibrated_by=stored and stored.photographs,
        dataset=dataset,
        splits=splits,
        held_out=any(split["name"] == "validation" for split in splits),
        fewest=min(split["fewest"] for split in splits if split["name"] == "train"),
        test=test,
        intervals={} if test is None else _intervals(folder, test, notes),
        base_models=base_models,
        seconds=_seconds(folder, notes),
        made=folder.read_environment(),
        files=_own_files(config),
        data_option=_DATA_OPTIONS.get(config.data.dataset, " --data.root PHOTOGRAPHS"),
        license_name=license_name,
    )
    return Card(text=text, notes=tuple(notes))


def _template() -> jinja2.Template:
    environment = jinja2.Environment(  # noqa: S701  # Markdown: `plain` escapes what is anyone's text
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["plain"] = _plain
    environment.filters["percent"] = lambda share: f"{100 * share:.1f}"
    return environment.from_string(files("mpfgvc.deploy.hub").joinpath("card.md.j2").read_text("utf-8"))


def _plain(text: str) -> str:
    """Text that Markdown and HTML show as it is."""
    return _MARKDOWN.sub(r"\\\1", printable(text)).replace("\\<", "&lt;").replace("\\&", "&amp;")


def _test_metrics(test: TestResult, repository: str, kind: str, dataset: str) -> dict[str, Any]:
    """The test in the hub's form: accuracies of what the model answers with, in 0..1."""
    named = {
        "Top-1 accuracy": test.main.top1,
        "Top-5 accuracy": test.main.top5,
        "Mean accuracy per class": test.main.mean_class,
    }
    result = {
        "task": {"type": "image-classification", "name": "Image Classification"},
        "dataset": {"type": kind, "name": printable(dataset), "split": "test"},
        "metrics": [{"type": "accuracy", "name": name, "value": round(value, 6)} for name, value in named.items()],
    }
    index = [{"name": repository.partition("/")[2], "results": [result]}]
    return {"metrics": ["accuracy"], "model-index": index}


def _dataset_name(config: Config, photographs: PhotoSet) -> str:
    """The name of a published dataset, and how much of it this is if not all; else a word of our own."""
    name = config.data.dataset
    if name in OWN_DATASETS:
        return "own photographs"
    if name not in OFFICIAL:
        return photographs.name
    official, test = OFFICIAL[name], len(photographs.subset("test"))
    counts = (
        (len(photographs.classes), official.classes, "classes"),
        (len(photographs.samples) - test, official.train, "training photographs"),
        (test, official.test, "test photographs"),
    )
    parts = [f"{count:,} of {whole:,} {what}" for count, whole, what in counts if count != whole]
    return f"{official.title} (subset: {', '.join(parts)})" if parts else official.title


def _splits(photographs: PhotoSet) -> list[dict[str, Any]]:
    """Name and photographs of each split that has some, and those of its smallest and largest class."""
    found = []
    for split in SPLITS:
        counts = photographs.subset(split).counts(len(photographs.classes)).tolist()
        if sum(counts):
            row = {"photographs": sum(counts), "fewest": min(counts), "most": max(counts)}
            found.append({"name": split, **row})
    return found


def _own_files(config: Config) -> list[str]:
    """Names of the files of this machine that the settings name."""
    model = config.model
    paths = (model.image_tower.weights, model.text_tower.weights, model.descriptions, config.data.taxonomy)
    words = (None, BUNDLED_DESCRIPTIONS, NESTED_FOLDERS)
    return [Path(path).name for path in paths if path not in words and path is not None]


def _test(path: Path) -> TestResult:
    try:
        document = parse_json(read_text(path))
        if not isinstance(document, dict):
            raise ConfigError("the document must be an object")
        return as_written(TestResult, {entry.name: document.get(entry.name) for entry in fields(TestResult)})
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}; restore it from a copy") from None


def _intervals(folder: RunFolder, test: TestResult, notes: list[str]) -> dict[str, Interval]:
    """The interval of each source's top-1, where the answers about each photograph are known."""
    file = folder.predictions("test")
    if not file.is_file():
        return {}
    try:
        refuse_missing_scipy()
    except ConfigError:
        notes.append("intervals are left out, as they need scipy: pip install 'mpfgvc[compare]'")
        return {}
    answers, seen = load_answers(file), np.ones(test.count, dtype=np.int64)
    if len(answers.paths) != test.count:
        what = f"{len(answers.paths)} photographs, {folder.evaluation.name} {test.count}"
        notes.append(f"intervals are left out, as {file} holds {what}")
        return {}
    return {
        source: accuracy_interval(metrics.right.astype(np.int64), seen) for source, metrics in answers.sources.items()
    }


def _seconds(folder: RunFolder, notes: list[str]) -> float:
    """Wall time of all epochs and embedding passes, 0 if it is not known."""
    try:
        return training_seconds(read_rows(folder.metrics))
    except CheckpointError as error:
        notes.append(f"the time of the training is left out: {error}")
        return 0.0
