"""The command line is a contract: commands and the keys of their JSON documents."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

Cli = Callable[..., tuple[int, str, str]]


def test_train_prints_one_json_document_with_run_folder_and_metrics(
    cli: Cli, tiny_words: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    code, stdout, stderr = cli("train", "--json", "--out", out, *tiny_words)
    document = json.loads(stdout)
    assert code == 0
    for bar in ("stage1", "stage2, embedding", "stage2"):
        assert f"{bar}: 100%" in stderr
    assert document["run"] == str(out)
    assert document["metrics"]["count"] == 15
    assert {path.name for path in out.iterdir()} >= {"config.yaml", "environment.json", "metrics.csv", "model"}
    heading, *rows = (out / "metrics.csv").read_text().splitlines()
    assert heading.startswith("stage,epoch,step,loss,accuracy")
    stages = ["stage1", "stage2", "stage2"]  # with a row for each pass
    assert [row.split(",")[0] for row in rows] == stages


def test_evaluate_json_has_the_keys_of_the_contract(cli: Cli, finished: Path, tmp_path: Path) -> None:
    code, stdout, _ = cli("evaluate", finished, "--json", "--report", tmp_path / "report")
    document = json.loads(stdout)
    assert code == 0
    contract = {"split", "count", "top1", "top5", "mean_class", "sources"}
    assert set(document) == contract | {"prediction", "precision", "set", "left_out", "absent_classes", "notes"}
    assert set(document["left_out"].values()) == {0}
    assert set(document["sources"]) == {"vision", "text", "fusion"}
    assert document["count"] == 15
    assert document["top1"] == document["sources"]["fusion"]["top1"]
    assert document["precision"] == "fp32"
    assert document == json.loads((finished / "evaluation.json").read_text())
    confusion = (tmp_path / "report" / "confusion_fusion.csv").read_text().splitlines()
    pairs = [line.split(",") for line in confusion[1:]]
    assert sum(int(count) for _, _, count in pairs) == 15
    right = sum(int(count) for true, predicted, count in pairs if true == predicted)
    assert right / 15 == pytest.approx(document["top1"])


def test_evaluate_says_its_precision_and_prints_a_row_for_each_source(cli: Cli, finished: Path) -> None:
    stdout = cli("evaluate", finished)[1]
    assert stdout.splitlines()[0] == "test split, 15 photographs, 3 classes, fp32"
    assert [word for word in stdout.split() if word in ("vision", "text", "fusion")] == ["vision", "text", "fusion"]
    assert json.loads(cli("evaluate", finished, "--precision", "bf16", "--json")[1])["precision"] == "bf16"


def test_a_dataset_that_moved_is_found_by_evaluate_explain_and_resume(
    cli: Cli, finished: Path, photos: Path, tmp_path: Path
) -> None:
    run, moved = shutil.copytree(finished, tmp_path / "run"), shutil.copytree(photos, tmp_path / "photos #2")
    config = run / "config.yaml"
    config.write_text(config.read_text().replace(str(photos), "/nowhere"))
    (run / "digests.json").unlink()
    place = ["--data.root", moved]
    for words in (["evaluate", run], ["explain", run, "-o", tmp_path / "a.png"], ["train", "--resume", run]):
        if "train" in words:
            shutil.rmtree(run / "model")  # else it is finished, and needs no photographs
        assert "/nowhere" in cli(*words)[2]
        code, _, stderr = cli(*words, *place)
        assert code == 0, stderr


def test_the_next_command_is_quoted_for_the_shell(cli: Cli, tmp_path: Path) -> None:
    size = ["--data.birds.species", 2, "--data.birds.train", 2, "--data.birds.test", 1]
    folder = tmp_path / "birds #2"
    code, stdout, _ = cli("data", "synthesize", "--out", folder, *size)
    assert (code, stdout.splitlines()[-1].endswith(f"--data.root '{folder}'")) == (0, True)
