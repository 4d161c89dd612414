"""The model card: `README.md` of a repository on the Hugging Face hub, written from a finished run.

Front matter in YAML, which the hub reads (library, task, tags, licence, base models, test metrics), then
Markdown for people, from the template `card.md.j2`. Every sentence follows from the run, and none names a
folder of this machine. Names of classes and datasets are anyone's text, so they are escaped.
"""

import re
from importlib.resources import files
from pathlib import Path

import jinja2
import numpy as np
from huggingface_hub import EvalResult, ModelCardData
from pydantic import BaseModel, ValidationError

import mpfgvc
from mpfgvc.config import BUNDLED_DESCRIPTIONS, NESTED_FOLDERS, Config
from mpfgvc.data.catalog import OFFICIAL, official_counts
from mpfgvc.data.photographs_file import load_photos
from mpfgvc.data.samples import SPLITS, PhotoSet
from mpfgvc.errors import CheckpointError, ConfigError, printable
from mpfgvc.evaluation.metrics import load_answers
from mpfgvc.evaluation.statistics import Interval, accuracy_interval, refuse_missing_scipy
from mpfgvc.files import check_digest
from mpfgvc.inference.description import ModelDescription
from mpfgvc.model.towers.hub import hub_repositories
from mpfgvc.progress import say
from mpfgvc.run_folder import RunFolder, read_rows, training_seconds
from mpfgvc.terms import Precision, Source

OWN_DATASETS = ("folder", "manifest")
"""Datasets whose name is that of a folder or file of their owner, so it is not told."""
TAGS = ("fine-grained", "fine-grained-visual-classification", "mp-fgvc", "vision-transformer")
_DATA_OPTIONS = {"synthetic": "", "manifest": " --data.manifest TABLE"}
"""What a training needs beside the recipe; any other dataset needs its folder."""
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|~&$])")


class Score(BaseModel):
    """How a source of logits did in the test, 0..1."""

    top1: float
    top5: float
    mean_class: float


class TestResult(BaseModel):
    """The test of a run: photographs, the source that the model answers with, and how every source did."""

    count: int
    prediction: Source
    precision: Precision
    sources: dict[Source, Score]


def model_card(
    folder: RunFolder,
    description: ModelDescription,
    *,
    repository: str,
    license_name: str | None = None,
    dataset: str | None = None,
) -> str:
    """The card of a run whose model is `description`, as `user/name`. What it cannot tell is said.

    `license_name` None leaves the licence to the owner; `dataset` is what the photographs are called. Raises
    CheckpointError for a run that is not finished, or files that are damaged.
    """
    config, photographs = folder.read_config(), load_photos(folder.photographs)
    if config.final_test and photographs.subset("test") and not folder.evaluation.is_file():
        hint = f"it has no {folder.evaluation.name}; finish it with: mpfgvc train --resume {folder.path}"
        raise CheckpointError(f"the run {folder.path} is not finished: {hint}")
    dataset = dataset or _dataset_name(config, photographs)
    test = _test(folder.evaluation) if folder.evaluation.is_file() else None
    image, tower = config.model.image_tower, config.model.text_tower
    stored, bases = description.calibration, hub_repositories(config.model)
    splits = {split: photographs.subset(split).counts(len(photographs.classes)).tolist() for split in SPLITS}
    name, knows_text = repository.partition("/")[2], tower.pretrained is not None or tower.weights is not None
    results = [] if test is None else _hub_results(test, config.data.dataset, dataset)
    front = ModelCardData(
        library_name="mpfgvc",
        pipeline_tag="image-classification",
        tags=[*TAGS, *(["clip"] if knows_text and not tower.name.startswith("mpfgvc-") else [])],
        license=license_name,
        base_model=list(bases) or None,
        metrics=["accuracy"] if results else None,
        model_name=name if results else None,
        eval_results=results or None,
    )
    return _template().render(
        front=front.to_yaml(),
        name=name,
        repository=repository,
        version=mpfgvc.__version__,
        config=config.without_folders(),
        knows_text=knows_text,
        pretrained=knows_text or image.pretrained or image.weights is not None,
        classes=description.classes,
        taxonomy=() if description.taxonomy is None else description.taxonomy.levels,
        preprocessing=description.preprocessing,
        calibration=stored and stored.of(config.model.prediction),
        calibrated_by=stored and stored.photographs,
        dataset=dataset,
        splits={split: counts for split, counts in splits.items() if any(counts)},
        test=test,
        intervals={} if test is None else _intervals(folder, test),
        base_models=bases,
        seconds=_seconds(folder),
        made=folder.read_environment(),
        files=_own_files(config),
        data_option=_DATA_OPTIONS.get(config.data.dataset, " --data.root PHOTOGRAPHS"),
        license_name=license_name,
    )


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


def _hub_results(test: TestResult, kind: str, dataset: str) -> list[EvalResult]:
    """The test in the hub's form: accuracies of what the model answers with, in 0..1."""
    score = test.sources[test.prediction]
    named = {"Top-1 accuracy": score.top1, "Top-5 accuracy": score.top5, "Mean accuracy per class": score.mean_class}
    return [
        EvalResult(
            task_type="image-classification",
            dataset_type=kind,
            dataset_name=printable(dataset),
            dataset_split="test",
            metric_type="accuracy",
            metric_name=name,
            metric_value=round(value, 6),
        )
        for name, value in named.items()
    ]


def _dataset_name(config: Config, photographs: PhotoSet) -> str:
    """The name of a published dataset, and whether this is all of it; else a general word."""
    name = config.data.dataset
    if name in OWN_DATASETS:
        return "own photographs"
    if name not in OFFICIAL:
        return photographs.name
    title = OFFICIAL[name].title
    return title if official_counts(name, photographs) else f"a part of {title}"


def _own_files(config: Config) -> list[str]:
    """Names of the files of this machine that the settings name."""
    model = config.model
    paths = (model.image_tower.weights, model.text_tower.weights, model.descriptions, config.data.taxonomy)
    words = (None, BUNDLED_DESCRIPTIONS, NESTED_FOLDERS)
    return [Path(path).name for path in paths if path not in words and path is not None]


def _test(path: Path) -> TestResult:
    check_digest(path)
    try:
        result = TestResult.model_validate_json(path.read_bytes(), strict=True)
        if result.prediction not in result.sources:
            raise ValueError(f"sources.{result.prediction} is missing")
        return result
    except ValidationError as error:
        first = error.errors()[0]
        reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    except (OSError, ValueError) as error:
        reason = str(error)
    raise CheckpointError(f"{path}: {reason}; restore it from a copy")


def _intervals(folder: RunFolder, test: TestResult) -> dict[str, Interval]:
    """The interval of each source's top-1, where the answers about each photograph are known."""
    file = folder.predictions("test")
    if not file.is_file():
        return {}
    try:
        refuse_missing_scipy()
    except ConfigError:
        say("intervals are left out, as they need scipy: pip install 'mpfgvc[compare]'")
        return {}
    answers, seen = load_answers(file), np.ones(test.count, dtype=np.int64)
    if len(answers.paths) != test.count:
        what = f"{len(answers.paths)} photographs, {folder.evaluation.name} {test.count}"
        say(f"intervals are left out, as {file} holds {what}")
        return {}
    return {
        source: accuracy_interval(metrics.right.astype(np.int64), seen) for source, metrics in answers.sources.items()
    }


def _seconds(folder: RunFolder) -> float:
    """Wall time of all epochs and embedding passes, 0 if it is not known."""
    try:
        return training_seconds(read_rows(folder.metrics))
    except CheckpointError as error:
        say(f"the time of the training is left out: {error}")
        return 0.0
