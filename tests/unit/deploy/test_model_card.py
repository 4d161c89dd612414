"""The model card of a record: front matter that is YAML, text that no name can break."""

import html
import re
from dataclasses import replace
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

from mpfgvc.config import ModelConfig
from mpfgvc.config_io import load_config
from mpfgvc.data.preprocessing import Preprocessing
from mpfgvc.deploy.model_card import model_card
from mpfgvc.deploy.run_record import RunRecord, SourceScore, SplitCount, TestScores
from mpfgvc.evaluation.statistics import Interval
from mpfgvc.inference.model_description import ModelDescription

CONFIG = load_config("cub")
SCORES = (
    SourceScore(source="vision", top1=0.5, top5=0.75, mean_class=0.25, interval=None),
    SourceScore(source="text", top1=0.625, top5=0.875, mean_class=0.5, interval=None),
    SourceScore(source="fusion", top1=0.8, top5=0.9, mean_class=0.7, interval=Interval(0.71, 0.88)),
)
RECORD = RunRecord(
    config=CONFIG,
    dataset="CUB-200-2011",
    splits=(
        SplitCount(split="train", photographs=5994, fewest=29, most=30),
        SplitCount(split="test", photographs=5794, fewest=11, most=11),
    ),
    test=TestScores(count=5794, prediction="fusion", precision="fp32", sources=SCORES),
    seconds=600.0,
    environment=None,
)


def _card(record: RunRecord = RECORD, classes: tuple[str, ...] = ("crow", "wren"), **options: Any) -> str:
    description = ModelDescription(
        classes=classes,
        embed=4,
        preprocessing=Preprocessing(image_size=(448, 400), mean=(0.5,) * 3, std=(0.5,) * 3, crop_ratio=0.75),
        model=ModelConfig(),
    )
    return model_card(record, repository="me/birds", description=description, **options)


def _front(card: str) -> dict[str, Any]:
    front: dict[str, Any] = yaml.safe_load(card.split("---\n")[1])
    return front


def test_the_front_matter_has_what_the_hub_reads() -> None:
    front = _front(_card(base_models=("timm/a", "timm/b"), license_name="mit"))
    assert front["library_name"] == "mpfgvc"
    assert front["pipeline_tag"] == "image-classification"
    assert (front["base_model"], front["license"]) == (["timm/a", "timm/b"], "mit")
    (entry,) = front["model-index"]
    (result,) = entry["results"]
    assert entry["name"] == "birds"
    assert result["dataset"] == {"type": "cub", "name": "CUB-200-2011", "split": "test"}
    assert [(each["type"], each["value"]) for each in result["metrics"]] == [
        ("accuracy", 0.8),
        ("accuracy", 0.9),
        ("accuracy", 0.7),
    ]


def test_the_table_has_a_row_for_each_source_and_marks_the_one_that_answers() -> None:
    lines = _card().splitlines()
    assert "| vision | 50.0 |  | 75.0 | 25.0 |" in lines
    assert "| **fusion** | **80.0** | 71.0 to 88.0 | 90.0 | 70.0 |" in lines
    assert "| train | 5,994 | 29 to 30 |" in lines
    assert "| test | 5,794 | 11 |" in lines
    assert "- A photograph is brought to 448 x 400 pixels (`short`, crop ratio 0.75) and seen once." in lines
    assert "- Time of the epochs: 10.0 minutes" in lines


def test_the_licence_is_left_to_the_owner() -> None:
    card = _card()
    assert "license" not in _front(card)
    assert "- The owner has stated no licence." in card
    assert "- The owner has stated no licence." not in _card(license_name="mit")


def test_without_a_test_the_card_claims_nothing() -> None:
    card = _card(replace(RECORD, test=None))
    assert {"model-index", "metrics"}.isdisjoint(_front(card))
    assert "This run has no test" in card
    assert "| source |" not in card


def test_few_photographs_are_a_limit_that_is_said() -> None:
    few = replace(
        RECORD,
        splits=(SplitCount(split="train", photographs=30, fewest=3, most=20),),
        test=replace(RECORD.test, count=12),  # type: ignore[type-var]
    )
    card = _card(few)
    assert "- Some class has only 3 training photographs." in card
    assert "- The test has only 12 photographs, so its figures are uncertain." in card
    assert "has only" not in _card()


@pytest.mark.parametrize(
    "hostile", ["<script>x</script>", "a | b", "**bold**", "[x](y)", "# head", "```", "---\nx"]
)
def test_no_name_breaks_the_page(hostile: str) -> None:
    card = _card(replace(RECORD, dataset=hostile), classes=("wren", hostile))
    pages = [
        MarkdownIt("commonmark").enable("table").render(text.split("---\n", 2)[2]) for text in (card, _card())
    ]
    tags = [re.findall(r"</?[a-z]\w*", page) for page in pages]
    assert tags[0] == tags[1]
    assert html.unescape(pages[0]).count(hostile.replace("\n", "\\n")) == 2
    name = _front(card)["model-index"][0]["results"][0]["dataset"]["name"]
    assert name == hostile.replace("\n", "\\n")


def test_the_same_run_gives_the_same_card() -> None:
    assert _card() == _card()


@pytest.mark.parametrize(
    ("dataset", "command"),
    [
        ("folder", "mpfgvc train --config ./config.yaml --data.root PHOTOGRAPHS"),
        ("manifest", "mpfgvc train --config ./config.yaml --data.manifest TABLE"),
        ("synthetic", "mpfgvc train --config ./config.yaml"),
    ],
)
def test_the_command_asks_for_what_the_dataset_needs(dataset: str, command: str) -> None:
    config = replace(CONFIG, data=replace(CONFIG.data, dataset=dataset))  # type: ignore[arg-type]
    assert command in _card(replace(RECORD, config=config)).splitlines()


def test_the_hubs_library_reads_the_card() -> None:
    card = ModelCard(_card())
    assert {result.metric_name for result in card.data.eval_results} == {
        "Top-1 accuracy",
        "Top-5 accuracy",
        "Mean accuracy per class",
    }
