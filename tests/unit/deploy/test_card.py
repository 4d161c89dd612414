"""The model card of a run: front matter that is YAML, sentences that follow from its files."""

import html
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt
from tests.made_answers import answers_of

from mpfgvc.config import ModelConfig
from mpfgvc.data.photographs_file import save_photos
from mpfgvc.data.preprocessing import Preprocessing
from mpfgvc.data.samples import PhotoSet, Samples
from mpfgvc.data.taxonomy import Taxonomy
from mpfgvc.deploy.hub.card import model_card
from mpfgvc.errors import CheckpointError
from mpfgvc.evaluation.metrics import save_answers
from mpfgvc.inference.answering import Calibration, LevelScores, SourceCalibration
from mpfgvc.inference.description import ModelDescription
from mpfgvc.recipes_io import load_config
from mpfgvc.run_folder import Environment, RunFolder, format_rows

ENVIRONMENT = Environment(
    command=("/home/ada/mpfgvc", "train"),
    commit="abcdef0",
    device="cpu",
    precision="32-true",
    processes=1,
    threads=2,
    python="3.11.7",
    platform="Linux",
    processor="a | processor",
    packages={"torch": "2.11.0", "timm": None},
)
SOURCES = {
    name: {"top1": top1, "top5": 0.875, "mean_class": 0.25}
    for name, top1 in (("vision", 0.5), ("text", 0.625), ("fusion", 0.8))
}
RESULT = {"count": 4, "prediction": "fusion", "precision": "fp32", "sources": SOURCES}
DESCRIPTION = ModelDescription(
    classes=("crow", "wren"),
    embed=4,
    preprocessing=Preprocessing(image_size=(448, 400), mean=(0.5,) * 3, std=(0.5,) * 3, crop_ratio=0.75),
    model=ModelConfig(),
)
RANDOM_TEXT = {"model.text_tower.name": "mpfgvc-small", "model.text_tower.pretrained": None}
Make = Callable[..., RunFolder]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A run folder with two classes: 3 + 1 training and 2 + 2 test photographs, and a test result."""

    def write(dataset: str = "folder", result: dict[str, Any] | None = None, **settings: object) -> RunFolder:
        folder = RunFolder(tmp_path / "run")
        overrides = {"data.dataset": dataset, "data.root": "/home/ada/photos"} | settings
        folder.create(load_config(overrides=overrides), ENVIRONMENT)
        labels = [("train", 0), ("train", 0), ("train", 0), ("train", 1)]
        labels += [("test", label) for label in (0, 0, 1, 1)]
        rows = [(f"{number}.jpg", label, split) for number, (split, label) in enumerate(labels)]
        listed = PhotoSet(name="ada", classes=("a", "b"), samples=Samples.of(None, rows))
        save_photos(listed, folder.photographs)
        folder.save_evaluation(RESULT if result is None else result)
        return folder

    return write


def card_of(folder: RunFolder, description: ModelDescription = DESCRIPTION, **options: Any) -> str:
    return model_card(folder, description, repository="me/birds", **options)


def front_of(card: str) -> dict[str, Any]:
    front: dict[str, Any] = yaml.safe_load(card.split("---\n")[1])
    return front


def answered(folder: RunFolder, right: int) -> None:
    guesses = "aabb"[:right] + "c" * (4 - right)
    sources = dict.fromkeys(("vision", "text", "fusion"), guesses)
    answers = answers_of("aabb", sources, [f"{number}.jpg" for number in range(4)])
    save_answers(answers, folder.predictions("test"))


def test_the_front_matter_has_what_the_hub_reads(make: Make) -> None:
    card = card_of(make(), license_name="mit", dataset="Moths of Jena")
    front = front_of(card)
    assert (front["library_name"], front["pipeline_tag"], front["license"]) == (
        *("mpfgvc", "image-classification"),
        "mit",
    )
    assert front["base_model"] == ["timm/vit_base_patch16_224.augreg_in21k", "timm/vit_base_patch16_clip_224.openai"]
    found: Any = ModelCard(card).data
    assert {result.dataset_name for result in found.eval_results} == {"Moths of Jena"}
    assert {result.metric_name: result.metric_value for result in found.eval_results} == {
        "Top-1 accuracy": 0.8,
        "Top-5 accuracy": 0.875,
        "Mean accuracy per class": 0.25,
    }
    unstated = card_of(make())
    assert "license" not in front_of(unstated)
    assert "- The owner has stated no licence." in unstated
    assert "- The owner has stated no licence." not in card


def test_the_tables_have_a_row_for_each_split_and_source_and_mark_the_one_that_answers(make: Make) -> None:
    folder = make()
    lines = card_of(folder).splitlines()
    for line in (
        "Dataset: own photographs, 2 classes.",
        "| train | 4 | 1 to 3 |",
        "| test | 4 | 2 |",
        "| vision | 50.0 |  | 87.5 | 25.0 |",
        "- A photograph is brought to 448 x 400 pixels (`short`, crop ratio 0.75) and seen once.",
        "- Some class has only 1 training photograph.",
        "- The test has only 4 photographs, so its figures are uncertain.",
        "- Machine: a \\| processor, processes: 1, threads of each: 2, 32-true",
        "- Versions: Python 3.11.7, torch 2.11.0",
        "- Commit of mpfgvc: `abcdef0`",
    ):
        assert line in lines
    answered(folder, 4)
    row = {"stage": "stage1", "epoch": 1, "step": 4}
    folder.metrics.write_text(format_rows([row | {"seconds": 580}, row | {"seconds": 20}]))
    lines = card_of(folder).splitlines()
    assert "| **fusion** | **80.0** | 39.8 to 100.0 | 87.5 | 25.0 |" in lines
    assert "- Time of the epochs: 10.0 minutes" in lines


def test_without_a_test_the_card_claims_nothing(make: Make) -> None:
    folder = make(final_test=False)
    folder.evaluation.unlink()
    card = card_of(folder)
    assert {"model-index", "metrics"}.isdisjoint(front_of(card))
    assert "This run has no test" in card
    assert "| source |" not in card


def test_what_is_known_about_the_probabilities_and_the_taxonomy_is_said(make: Make) -> None:
    scores = LevelScores(level="class", confidence=(0.5,) * 30, right=(True,) * 30)
    stored = SourceCalibration(source="fusion", temperature=1.25, truth=(0.5,) * 30, levels=(scores,))
    calibration = Calibration(photographs="validation split", sources=(stored,))
    taxonomy = Taxonomy(levels=("genus",), groups=(("Corvus", "Troglodytes"),))
    folder = make()
    plain, known = (
        card_of(folder, replace(DESCRIPTION, **more))  # type: ignore[arg-type]
        for more in ({}, {"calibration": calibration, "taxonomy": taxonomy})
    )
    assert "- Probabilities are not calibrated." in plain
    assert "not calibrated" not in known
    assert "calibrated by 30 photographs (validation split), temperature 1.25:" in known
    assert "Above the classes the model knows genus: with `--abstain SHARE --back-off` it answers" in known
    assert "Above the classes" not in plain
    assert "Above the classes the model knows genus." in card_of(folder, replace(DESCRIPTION, taxonomy=taxonomy))


@pytest.mark.parametrize(
    ("settings", "said", "tags"),
    [
        ({}, "keeps the 49 patches that its class token attends to", {"clip"}),
        ({"model.selection": "random"}, "keeps the 49 patches that chance chooses", {"clip"}),
        ({"model.kept_tokens": None}, "keeps all patches", {"clip"}),
        (RANDOM_TEXT, "text tower `mpfgvc-small` (random weights)", set()),
        (RANDOM_TEXT | {"model.image_tower.pretrained": False}, "- Biases of the photographs are in the model.", set()),
        ({"model.text_tower.name": "mpfgvc-birds", "model.text_tower.pretrained": "bundled"}, "and of the pret", set()),
    ],
)
def test_every_sentence_follows_from_the_settings(
    make: Make, settings: dict[str, Any], said: str, tags: set[str]
) -> None:
    card = card_of(make(**settings))
    assert said in card
    assert set(front_of(card)["tags"]) & {"clip"} == tags


@pytest.mark.parametrize(
    "hostile", ["<script>x</script>", "a | b", "**bold**", "[x](y)", "# head", "```", "---\nx", "{{ 7 * 7 }}"]
)
def test_no_name_breaks_the_page(make: Make, hostile: str) -> None:
    folder = make()
    description = replace(DESCRIPTION, classes=("wren", hostile))
    cards = card_of(folder, description, dataset=hostile), card_of(folder, dataset="plain")
    pages = [MarkdownIt("commonmark").enable("table").render(card.split("---\n", 2)[2]) for card in cards]
    tags = [re.findall(r"</?[a-z]\w*", page) for page in pages]
    assert tags[0] == tags[1]
    assert html.unescape(pages[0]).count(hostile.replace("\n", "\\n")) == 2
    name = front_of(cards[0])["model-index"][0]["results"][0]["dataset"]["name"]
    assert name == hostile.replace("\n", "\\n")


@pytest.mark.parametrize(
    ("dataset", "command"),
    [
        ("folder", "mpfgvc train --config ./config.yaml --data.root PHOTOGRAPHS"),
        ("manifest", "mpfgvc train --config ./config.yaml --data.manifest TABLE"),
        ("synthetic", "mpfgvc train --config ./config.yaml"),
    ],
)
def test_the_command_asks_for_what_the_training_needs(make: Make, dataset: str, command: str) -> None:
    text = card_of(make(dataset))
    assert command in text.splitlines()
    assert "files of the owner" not in text
    text = card_of(make(dataset, **{"model.descriptions": "/home/ada/words.csv"}))
    assert "files of the owner, which are not in this repository: words.csv:" in text


def test_a_part_of_a_published_dataset_is_called_one(make: Make) -> None:
    assert "Dataset: a part of CUB-200-2011, 2 classes." in card_of(make("cub"))


def test_what_hinders_an_interval_is_said(
    make: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make(result=RESULT | {"count": 5})
    answered(folder, 3)
    card_of(folder)
    expected = f"intervals are left out, as {folder.predictions('test')} holds 4 photographs, evaluation.json 5"
    assert capsys.readouterr().err == f"mpfgvc: {expected}\n"
    monkeypatch.setitem(sys.modules, "scipy", None)
    card_of(folder)
    assert "pip install 'mpfgvc[compare]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        ({}, "count: Field required"),
        (RESULT | {"count": "4"}, "count: Input should be a valid integer"),
        (RESULT | {"sources": {"text": SOURCES["text"]}}, "sources.fusion is missing"),
        (RESULT | {"sources": SOURCES | {"fusion": {"top1": 1.0}}}, "sources.fusion.top5: Field required"),
    ],
)
def test_a_damaged_result_is_refused_in_one_line(make: Make, result: dict[str, Any], reason: str) -> None:
    folder = make(result=result)
    with pytest.raises(CheckpointError) as refusal:
        card_of(folder)
    assert str(refusal.value).startswith(f"{folder.evaluation}: {reason}")
    assert "\n" not in str(refusal.value)


def test_a_run_without_its_result_is_not_finished_and_a_flipped_bit_of_it_is_seen(make: Make) -> None:
    folder = make()
    folder.evaluation.write_bytes(folder.evaluation.read_bytes().replace(b"0.8", b"0.9", 1))
    with pytest.raises(CheckpointError, match=r"evaluation\.json is damaged"):
        card_of(folder)
    folder.evaluation.unlink()
    with pytest.raises(CheckpointError, match="is not finished: it has no evaluation"):
        card_of(folder)
