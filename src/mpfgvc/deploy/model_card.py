"""The model card: `README.md` of a repository on the Hugging Face hub, written from a run.

Front matter in YAML, which the hub reads (library, task, tags, licence, base models, test metrics), then
Markdown for people. Names of classes and datasets are anyone's text, so they are escaped. The same run gives
the same card.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import yaml

import mpfgvc
from mpfgvc.config import Config
from mpfgvc.data.preprocessing import Preprocessing
from mpfgvc.deploy.card_parts import CITATION, HOW_TO_USE, LIMITS, REPEAT, WHAT_IT_IS
from mpfgvc.deploy.run_record import RunRecord, SourceScore, SplitCount, TestScores
from mpfgvc.inference.model_description import ModelDescription
from mpfgvc.progress import printable
from mpfgvc.run_environment import Environment

TAGS = ("fine-grained", "fine-grained-visual-classification", "mp-fgvc", "clip", "vision-transformer")
_DATA_OPTIONS = {"synthetic": "", "manifest": " --data.manifest TABLE"}
"""What a training needs beside the recipe; any other dataset needs its folder."""
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|~&$])")


def model_card(
    record: RunRecord,
    *,
    repository: str,
    description: ModelDescription,
    base_models: Sequence[str] = (),
    license_name: str | None = None,
) -> str:
    """The text of the card of `user/name`; `license_name` None leaves the licence to the owner."""
    classes = description.classes
    front = yaml.safe_dump(
        _front_matter(record, repository, base_models, license_name), sort_keys=False, allow_unicode=True
    )
    parts = [
        f"---\n{front}---",
        f"# {_plain(repository.partition('/')[2])}",
        _what_it_is(record, len(classes)),
        HOW_TO_USE.format(repository=repository),
        _data(record, classes),
        _results(record, description.preprocessing),
        _training(record, base_models),
        _limits(record, license_name),
        CITATION,
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(
    record: RunRecord, repository: str, base_models: Sequence[str], license_name: str | None
) -> dict[str, Any]:
    front: dict[str, Any] = {
        "library_name": "mpfgvc",
        "pipeline_tag": "image-classification",
        "tags": list(TAGS),
    }
    if license_name is not None:
        front["license"] = license_name
    if base_models:
        front["base_model"] = list(base_models)
    if record.test is not None:
        front["metrics"] = ["accuracy"]
        front["model-index"] = [
            {"name": repository.partition("/")[2], "results": [_index_entry(record, record.test)]}
        ]
    return front


def _index_entry(record: RunRecord, test: TestScores) -> dict[str, Any]:
    """The test in the hub's form: accuracies of what the model answers with, in 0..1."""
    named = {
        "Top-1 accuracy": test.main.top1,
        "Top-5 accuracy": test.main.top5,
        "Mean accuracy per class": test.main.mean_class,
    }
    return {
        "task": {"type": "image-classification", "name": "Image Classification"},
        "dataset": {"type": record.config.data.dataset, "name": printable(record.dataset), "split": "test"},
        "metrics": [
            {"type": "accuracy", "name": name, "value": round(value, 6)} for name, value in named.items()
        ],
    }


def _what_it_is(record: RunRecord, classes: int) -> str:
    kept = record.config.model.kept_tokens
    return WHAT_IT_IS.format(
        classes=classes,
        word=_plain(record.config.model.supercategory or "object"),
        version=mpfgvc.__version__,
        kept="all patches" if kept is None else f"the {kept} patches that its class token attends to",
        source=record.config.model.prediction,
    )


def _data(record: RunRecord, classes: Sequence[str]) -> str:
    lines = ["## Data", "", f"Dataset: {_plain(record.dataset)}, {len(classes)} classes."]
    if record.splits:
        lines += ["", "| split | photographs | of a class |", "| --- | --- | --- |"]
        lines += [f"| {each.split} | {each.photographs:,} | {_span(each)} |" for each in record.splits]
    names = ", ".join(_plain(name) for name in classes)
    lines += ["", f"<details><summary>The {len(classes)} classes</summary>", "", names, "", "</details>"]
    return "\n".join(lines)


def _span(split: SplitCount) -> str:
    return str(split.most) if split.fewest == split.most else f"{split.fewest} to {split.most}"


def _results(record: RunRecord, prepared: Preprocessing) -> str:
    if record.test is None:
        return (
            "## Results\n\nThis run has no test, so nothing is known about its accuracy on new photographs."
        )
    rows = [_row(score, record.config) for score in record.test.sources]
    head = (
        f"{record.test.count:,} test photographs, which the training did not see, in {record.test.precision}."
    )
    lines = ["## Results", "", head, "", "| source | top-1 % | 95 % interval | top-5 % | mean per class % |"]
    lines += ["| --- | --- | --- | --- | --- |", *rows, "", *_protocol(record, prepared)]
    return "\n".join(lines)


def _row(score: SourceScore, config: Config) -> str:
    mark = "**" if score.source == config.model.prediction else ""
    interval = (
        "" if score.interval is None else f"{_percent(score.interval.low)} to {_percent(score.interval.high)}"
    )
    cells = [f"{mark}{score.source}{mark}", f"{mark}{_percent(score.top1)}{mark}", interval]
    return "| " + " | ".join([*cells, _percent(score.top5), _percent(score.mean_class)]) + " |"


def _protocol(record: RunRecord, prepared: Preprocessing) -> Iterator[str]:
    """How the figures came about."""
    yield f"- The model answers with *{record.config.model.prediction}*; the others are there to compare."
    if record.test is not None and record.test.main.interval is not None:
        yield "- Intervals: BCa bootstrap over the test photographs; the seed of the training is not in them."
    drawn = f"what it lacks is drawn class by class, by seed {record.config.seed}"
    yield f"- Splits: those of the dataset; {drawn}. The test is that at the end of the training."
    held_out = any(each.split == "validation" for each in record.splits)
    yield f"- Validation photographs were {'held out of the training' if held_out else 'not held out'}."
    size = " x ".join(map(str, prepared.image_size))
    way = f"`{prepared.resize}`, crop ratio {prepared.crop_ratio:g}"
    yield f"- A photograph is brought to {size} pixels ({way}) and seen once."


def _training(record: RunRecord, base_models: Sequence[str]) -> str:
    dataset = record.config.data.dataset
    repeat = REPEAT.format(data=_DATA_OPTIONS.get(dataset, " --data.root PHOTOGRAPHS"))
    lines = ["## Training", "", *_settings(record.config, base_models)]
    if record.seconds is not None:
        lines.append(f"- Time of the epochs: {_duration(record.seconds)}")
    if record.environment is not None:
        lines += _environment(record.environment)
    return "\n".join([*lines, "", repeat])


def _settings(config: Config, base_models: Sequence[str]) -> Iterator[str]:
    text_tower, first, second = config.model.text_tower, config.stage1, config.stage2
    random = " (random weights)" if text_tower.pretrained is None and text_tower.weights is None else ""
    yield f"- Image tower `{config.model.image_tower.name}`, text tower `{text_tower.name}`{random}"
    if base_models:
        links = ", ".join(f"[{name}](https://huggingface.co/{name})" for name in base_models)
        yield f"- Weights of the towers: {links}"
    yield (
        f"- Stage 1: {first.epochs} epochs, batch {first.batch_size}, rate {first.lr:g} "
        f"(tower {first.tower_lr:g})"
    )
    yield f"- Stage 2: {second.epochs} epochs, batch {second.batch_size}, rate {second.lr:g}"
    yield "- Every setting is in `config.yaml`."


def _environment(made: Environment) -> Iterator[str]:
    machine = _plain(made.processor if made.device == "cpu" else made.device)
    size = f"processes: {made.processes}, threads of each: {made.threads}"
    yield f"- Machine: {machine}, {size}, {made.precision}"
    versions = ", ".join(f"{name} {version}" for name, version in made.packages.items() if version)
    yield f"- Versions: Python {made.python}, {versions}"
    if made.commit:
        yield f"- Commit of mpfgvc: `{made.commit}`"


def _limits(record: RunRecord, license_name: str | None) -> str:
    lines = [LIMITS]
    train = [each for each in record.splits if each.split == "train"]
    if train and train[0].fewest < 10:
        lines += [f"- Some class has only {train[0].fewest} training photographs."]
    if record.test is not None and record.test.count < 1000:
        lines += [f"- The test has only {record.test.count} photographs, so its figures are uncertain."]
    if license_name is None:
        lines += ["- The owner has stated no licence. Towers and photographs have licences of their own."]
    return "\n".join(lines)


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:.1f} hours" if seconds >= 7200 else f"{seconds / 60:.1f} minutes"


def _plain(text: str) -> str:
    """Text that Markdown and HTML show as it is."""
    return _MARKDOWN.sub(r"\\\1", printable(text)).replace("\\<", "&lt;").replace("\\&", "&amp;")
