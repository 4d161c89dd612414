"""`mpfgvc evaluate --zero-shot`: settings in, the table and the JSON of every evaluation out, no training."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mpfgvc import ConfigError, evaluate_zero_shot, load_config
from mpfgvc.recipes_io import parse_overrides

Cli = Callable[..., tuple[int, str, str]]
BIRDS = ["--data.birds.species=6", "--data.birds.train=4", "--data.birds.test=3", "--data.workers=0"]
KEYS = {"split", "set", "count", "top1", "top5", "mean_class", "prediction", "precision", "sources", "left_out"} | {
    "absent_classes",
    "notes",
}


def test_the_bundled_pair_is_evaluated_without_a_run(cli: Cli, tmp_path: Path) -> None:
    code, stdout, stderr = cli("evaluate", "--zero-shot", "--json", *BIRDS, "--report", tmp_path / "report")
    document = json.loads(stdout)
    assert (code, stderr) == (0, "")
    assert document.keys() == KEYS
    assert (document["count"], document["split"], list(document["sources"])) == (18, "test", ["text"])
    assert document["sources"]["text"]["top1"] == document["top1"]
    assert "16 of 64 patches were kept" in document["notes"][0]
    assert (tmp_path / "report" / "confusion_text.csv").is_file()


def test_the_prompts_of_the_settings_decide(cli: Cli) -> None:
    words = [*BIRDS, "--model.kept_tokens=null", "--split", "train"]
    random = json.loads(cli("evaluate", "--zero-shot", "--json", *words)[1])
    named = ["--model.prompt_ending=class", "--model.context_init=a photo of a"]
    worded = json.loads(cli("evaluate", "--zero-shot", "--json", *words, *named)[1])
    assert random["count"] == worded["count"] == 24
    assert random["notes"] == worded["notes"] == []
    assert random["sources"] != worded["sources"]


def test_a_table_shows_the_source_text_only(cli: Cli) -> None:
    code, stdout, _ = cli("evaluate", "--zero-shot", *BIRDS)
    assert code == 0
    assert stdout.startswith("test split, 18 photographs, 6 classes, fp32\n")
    assert "\ntext " in stdout
    assert "fusion" not in stdout


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["evaluate"], "the following arguments are required: RUN; see mpfgvc evaluate --help"),
        (["evaluate", "--zero-shot", "runs/1"], "--zero-shot takes no RUN, got runs/1; name towers"),
        (["evaluate", "runs/1", "--zero-shot"], "--zero-shot takes no RUN, got runs/1; name towers"),
        (["evaluate", "run", "--seed", "3"], "unknown option --seed; see mpfgvc evaluate --help"),
        (["evaluate", "--zero-shot", "--model.kept_token=3"], "did you mean model.kept_tokens?"),
        (["evaluate", "--zero-shot", "--splitt=train"], "did you mean --split?"),
        (["evaluate", "--zero-shot", "--config", "folder"], "data.root is not set; give the folder"),
        (
            ["evaluate", "--zero-shot", *BIRDS, "--split", "validation"],
            "the dataset has no validation split; choose another --split",
        ),
        (
            ["evaluate", "--zero-shot", *BIRDS, "--model.text_tower.pretrained=null"],
            "for zero-shot, got mpfgvc-birds and mpfgvc-birds (the text tower has random weights)",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(cli: Cli, words: list[str], line: str) -> None:
    code, stdout, stderr = cli(*words)
    assert (code, stdout, stderr.count("\n")) == (2, "", 1)
    assert line in stderr


def test_towers_of_two_trainings_are_refused(shared: Path) -> None:
    """A pretrained tower of ImageNet beside the bundled text tower."""
    overrides = parse_overrides([*BIRDS, "--model.image_tower.name=vit_tiny_patch16_224"])
    weights = str(shared / "weights" / "vit_tiny_patch16_224.safetensors")
    config = load_config("synthetic", overrides=overrides | {"model.image_tower.weights": weights})
    with pytest.raises(ConfigError, match="must be of one training for zero-shot"):
        evaluate_zero_shot(config)


def test_its_help_lists_the_settings_and_the_runs_help_does_not(cli: Cli) -> None:
    assert "--model.kept_tokens" in cli("evaluate", "--zero-shot", "--help")[1]
    plain = cli("evaluate", "--help")[1]
    assert "--model.kept_tokens" not in plain
    assert "--zero-shot" in plain
