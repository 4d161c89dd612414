"""Calibration from the training to the answer: stored with the model, used by predict, kept by the export."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mpfgvc import AnswerRules, Config, Predictor, calibrate, export, train
from mpfgvc.inference.exported import ExportedBackend
from mpfgvc.inference.saved_model import load_model

Cli = Callable[..., tuple[int, str, str]]
LEVELS = (("class",), ("class", "family"))
TREE = "class,family\ncross,angular\nstripe,angular\ndisc,round\n"


@pytest.fixture(scope="module")
def calibrated(tiny: Callable[..., Config], photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a taxonomy that was calibrated on 24 photographs of its own validation split."""
    folder = tmp_path_factory.mktemp("calibrated")
    root = folder / "photos"
    shutil.copytree(photos, root)
    for name in ("cross", "disc", "stripe"):
        for file in sorted((root / "train" / name).iterdir())[:6]:
            shutil.copy(file, root / "val" / name / f"more-{file.name}")
    (folder / "tree.csv").write_text(TREE)
    settings = {"data.root": str(root), "data.taxonomy": str(folder / "tree.csv")}
    return train(tiny(settings), out=folder / "run").path


def test_a_training_calibrates_on_its_validation_photographs(calibrated: Path) -> None:
    saved = load_model(calibrated)
    assert saved.calibration is not None
    assert saved.calibration.photographs == "24 photographs of the validation split"
    assert [each.source for each in saved.calibration.sources] == ["vision", "text", "fusion"]
    assert all(len(each.truth) == 24 for each in saved.calibration.sources)
    assert [each.level for each in saved.calibration.sources[0].levels] == ["class", "family"]
    assert saved.taxonomy is not None
    rows = (calibrated / "taxonomy.csv").read_text().splitlines()
    assert sorted(rows) == sorted(TREE.splitlines())


def test_calibrate_false_leaves_the_logits_as_they_are(
    calibrated: Path, tiny: Callable[..., Config], tmp_path: Path
) -> None:
    root = str(calibrated.parent / "photos")
    run = train(tiny({"data.root": root, "calibrate": False}), out=tmp_path / "run").path
    saved = load_model(run)
    assert (saved.calibration, saved.taxonomy) == (None, None)
    file = next((Path(root) / "test" / "disc").iterdir())
    plain, soft = (Predictor.from_pretrained(each, device="cpu") for each in (run, calibrated))
    (output,) = plain.run([plain.prepare(plain.open(file))])
    logits = torch.from_numpy(output.logits[None])
    assert plain(file, top=1)[0].probability == pytest.approx(float(logits.softmax(dim=1).max()), abs=1e-6)
    temperature = soft.answering.temperature
    assert soft(file, top=1)[0].probability == pytest.approx(
        float((logits / temperature).softmax(dim=1).max()), abs=1e-6
    )


def test_too_few_validation_photographs_are_said(
    finished: Path, tiny: Callable[..., Config], tmp_path: Path, cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    train(tiny({"stage1.epochs": 0, "stage2.epochs": 0}), out=tmp_path / "run")
    assert "the model is not calibrated: that needs 20 validation photographs" in capsys.readouterr().err
    assert load_model(finished).calibration is None
    code, _, stderr = cli("calibrate", finished)
    assert code == 2
    assert "needs at least 20 photographs, got 6 of the validation split; give labelled" in stderr
    code, _, stderr = cli("predict", finished, finished, "--abstain", "0.1")
    assert code == 2


def _other_set(photos: Path, folder: Path, classes: tuple[str, ...], noises: int) -> Path:
    """The test photographs of some classes, each with so many kinds of noise."""
    for file in sorted(photos.glob("test/*/*.png")):
        for seed in range(noises if file.parent.name in classes else 0):
            pixels = np.asarray(Image.open(file)).astype(int)
            noisy = (pixels + np.random.default_rng(seed).integers(-20, 20, pixels.shape)).clip(0, 255)
            (folder / file.parent.name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(noisy.astype(np.uint8)).save(folder / file.parent.name / f"{seed}-{file.name}")
    return folder


def test_another_labelled_set_calibrates_a_finished_run(run: Path, photos: Path, tmp_path: Path, cli: Cli) -> None:
    other, before = _other_set(photos, tmp_path / "other", ("cross", "disc", "stripe"), 2), load_model(run)
    (tmp_path / "tree.csv").write_text(TREE)
    words = ("calibrate", run, "--data.root", other)
    code, stdout, stderr = cli(*words, "--taxonomy", tmp_path / "tree.csv", "--json")
    assert code == 0, stderr
    document = json.loads(stdout)
    assert document["count"] == 30
    assert document["photographs"] == "30 photographs of another labelled set"
    after = load_model(run)
    assert after.digest == before.digest
    assert after.calibration is not None
    assert after.calibration.temperature_of("fusion") == document["temperature"]["fusion"]
    assert after.taxonomy is not None
    assert calibrate(run, root=other).calibration == after.calibration
    low, high = document["error"]["after"]["interval"]
    assert low <= high
    answered = document["answered"]
    assert list(answered) == ["0.01", "0.05", "0.1"]
    assert answered["0.01"]["family"] <= answered["0.1"]["family"]
    rules = AnswerRules(abstain=0.1, back_off=True)
    answers = Predictor.from_pretrained(run, device="cpu", rules=rules).answer(sorted(other.rglob("*.png")))
    shares = [sum(each.label is not None and each.level in levels for each in answers) / 30 for levels in LEVELS]
    assert list(answered["0.1"].values()) == pytest.approx(shares)
    assert "answered, %, if wrong may be" in cli(*words)[1]


def test_what_a_set_for_calibration_lacks_is_said_and_copies_do_not_count(
    run: Path, photos: Path, tmp_path: Path, cli: Cli
) -> None:
    some = _other_set(photos, tmp_path / "some", ("cross",), 5)
    code, _, stderr = cli("calibrate", run, "--data.root", some)
    assert (code, "classes without a photograph: 2 of 3 (disc, stripe)" in stderr) == (0, True)
    for file in sorted(some.rglob("[234]-*.png")):
        shutil.copy(file.with_name(f"0-{file.name[2:]}"), file)
    code, _, stderr = cli("calibrate", run, "--data.root", some)
    assert (code, "got 10 of another labelled set" in stderr) == (2, True)
    assert "copies of another photograph of the set, left out: 15 (" in stderr


def test_a_run_without_validation_photographs_is_pointed_to_others(
    tiny: Callable[..., Config], photos: Path, tmp_path: Path, cli: Cli
) -> None:
    shutil.copytree(photos, tmp_path / "photos", ignore=shutil.ignore_patterns("val"))
    settings = {"data.root": str(tmp_path / "photos"), "data.validation": 0.0, "stage1.epochs": 0, "stage2.epochs": 0}
    train(tiny(settings), out=tmp_path / "run")
    code, _, stderr = cli("calibrate", tmp_path / "run")
    way_out = "give labelled photographs that it was not trained on, with --data.root or --data.manifest"
    assert (code, f"has no validation split; {way_out}" in stderr) == (2, True)


def test_predict_answers_under_rules_in_every_format(calibrated: Path, cli: Cli) -> None:
    photos = calibrated.parent / "photos" / "test"
    words = ("predict", calibrated, photos, "--abstain", "0.3", "--back-off", "--set", "0.8", "--top", "3")
    code, stdout, stderr = cli(*words, "--json")
    assert code == 0
    document: list[dict[str, Any]] = json.loads(stdout)
    assert all({"path", "guesses", "answer", "level", "set"} == set(each) for each in document)
    assert {each["level"] for each in document} <= {"class", "family", None}
    unsure = sum(each["answer"] is None for each in document)
    assert f"{unsure} of 15 answers are unsure" in stderr
    rows = cli(*words, "--csv")[1].splitlines()
    assert rows[0] == "path,rank,label,probability,error,answer,level,in_set"
    assert len(rows) == 1 + 45
    table = cli(*words)[1]
    assert table.count("  answer: ") == 15
    assert table.count("  set of ") == 15
    listed = calibrated.parent / "region.txt"
    listed.write_text("# of this region\ncross\ndisc\n")
    for branch, kept in (("family angular", {"cross", "stripe"}), (str(listed), {"cross", "disc"})):
        (first, *_) = json.loads(cli("predict", calibrated, photos, "--within", branch, "--json")[1])
        assert {each["label"] for each in first["guesses"]} == kept
        assert sum(each["probability"] for each in first["guesses"]) == pytest.approx(1)


@pytest.mark.slow("an export of its own")
def test_an_export_keeps_calibration_and_taxonomy(calibrated: Path, tmp_path: Path) -> None:
    path = export(calibrated, tmp_path / "run.onnx").path
    rules = AnswerRules(abstain=0.3, back_off=True, set=0.8)
    files = sorted((calibrated.parent / "photos" / "test").rglob("*.png"))
    runtime, predictor = (
        Predictor.from_pretrained(path, rules=rules),
        Predictor.from_pretrained(calibrated, device="cpu", rules=rules),
    )
    assert runtime.answer(files) == predictor.answer(files)
    assert runtime.answer(files[0]) == predictor.answer(files[0])
    assert ExportedBackend(path).description.calibration == load_model(calibrated).calibration
    assert [each.answer for each in runtime.predict_files(files)] == predictor.answer(files)


def test_evaluate_says_how_far_mistakes_are_in_the_taxonomy(calibrated: Path, cli: Cli) -> None:
    document = json.loads(cli("evaluate", calibrated, "--json")[1])
    shares = document["hierarchy"]["accuracy"]
    assert list(shares) == ["class", "family"]
    assert shares["class"] == document["top1"] <= shares["family"]
    assert "right at each level, %: " in cli("evaluate", calibrated)[1]


def test_nested_class_folders_are_classes_and_a_taxonomy(
    photos: Path, tiny: Callable[..., Config], tmp_path: Path, cli: Cli
) -> None:
    for split in ("train", "val", "test"):
        for name in ("cross", "disc", "stripe"):
            group = "round" if name == "disc" else "angular"
            shutil.copytree(photos / split / name, tmp_path / "nested" / split / group / name)
    settings = {"data.root": str(tmp_path / "nested"), "data.taxonomy": "folders"}
    run = train(tiny(settings), out=tmp_path / "run")
    saved = load_model(run.path)
    assert saved.network.classes == ("cross", "disc", "stripe")
    assert saved.taxonomy is not None
    assert saved.taxonomy.groups == (("angular", "round", "angular"),)
    code, _, stderr = cli("evaluate", run.path, "--data.root", tmp_path / "nested" / "val")
    assert (code, "no photograph is left to evaluate" in stderr) == (2, True)  # it was validated on them
