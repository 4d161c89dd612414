"""Evaluating a run: on the split that it stored, wherever its dataset is now, and on other labelled sets."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mpfgvc import CheckpointError, Config, DataError, Predictor, evaluate, train
from mpfgvc.data.photographs_file import load_photos
from mpfgvc.evaluation.evaluate import choose_photos
from mpfgvc.run_folder import RunFolder

CLASSES = ("cross", "disc", "stripe")


def _draw(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="module")
def trained(tiny: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a dataset of 3 classes, 10 photographs each and no split, and a run on it."""
    home = tmp_path_factory.mktemp("home")
    for label, name in enumerate(CLASSES):
        for index in range(10):
            _draw(home / "photos" / name / f"{index}.png", 100 * label + index)
    epochs = {"stage1.epochs": 1, "stage2.epochs": 1}
    train(tiny({"data.root": str(home / "photos"), **epochs}), out=home / "run")
    return home


@pytest.fixture
def home(trained: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may change; the settings of the run name the copy."""
    shutil.copytree(trained, tmp_path / "home")
    config = tmp_path / "home" / "run" / "config.yaml"
    config.write_text(config.read_text().replace(str(trained), str(tmp_path / "home")))
    digests = config.with_name("digests.json")
    kept = {name: digest for name, digest in json.loads(digests.read_text()).items() if name != config.name}
    digests.write_text(json.dumps(kept))
    return tmp_path / "home"


def _chosen(home: Path, root: Path | None = None, manifest: Path | None = None) -> list[Path]:
    folder = RunFolder(home / "run")
    choice = choose_photos(
        folder,
        folder.read_config(),
        split="test",
        root=None if root is None else str(root),
        manifest=None if manifest is None else str(manifest),
    )
    return [sample.path for sample in choice.samples]


def _listed(home: Path, split: str) -> list[Path]:
    return [home / "photos" / name for name in load_photos(home / "run" / "photographs.json").subset(split).paths]


def test_a_training_stores_its_photographs_and_evaluate_repeats_its_test(home: Path) -> None:
    evaluation = evaluate(home / "run", device="cpu")
    assert evaluation.count == len(_listed(home, "test")) == 6
    assert evaluation.to_dict() == json.loads((home / "run" / "evaluation.json").read_text())
    assert (evaluation.set, evaluation.precision, evaluation.notes) == ("run", "fp32", ())


def test_a_dataset_that_grew_is_evaluated_on_the_photographs_of_its_old_test(home: Path) -> None:
    before = evaluate(home / "run", device="cpu").to_dict()
    for index in range(25):
        _draw(home / "photos" / "disc" / f"new {index}.png", 900 + index)
    after = evaluate(home / "run", device="cpu")
    assert _chosen(home) == _listed(home, "test")
    assert after.left_out.to_dict() == {"unreadable": 0, "missing": 0, "trained_on": 0, "added": 25, "copies": 0}
    assert after.notes[0].startswith(
        "photographs added to the dataset after the run began, in no split and left out: 25 ("
    )
    assert {**after.to_dict(), "left_out": None, "notes": None} == {**before, "left_out": None, "notes": None}


def test_missing_photographs_are_counted_and_the_others_evaluated(home: Path) -> None:
    gone = _listed(home, "test")[:2]
    for path in [*gone, _listed(home, "train")[0]]:
        path.unlink()
    evaluation = evaluate(home / "run", device="cpu")
    assert evaluation.count == 4
    assert evaluation.left_out.missing == tuple(map(str, gone))
    assert "that are missing: 3 of 30 (" in evaluation.notes[0]


def test_a_photograph_of_the_training_that_took_the_name_of_a_test_photograph_is_left_out(home: Path) -> None:
    test, learned = _listed(home, "test")[0], _listed(home, "train")[3]
    shutil.copy(learned, test)
    evaluation = evaluate(home / "run", device="cpu")
    assert evaluation.count == 5
    assert evaluation.left_out.trained_on == (str(test),)
    assert any("whose content changed after the run began: 1 (" in note for note in evaluation.notes)
    assert any("photographs that the run was trained on, left out: 1 (" in note for note in evaluation.notes)


def test_a_moved_dataset_is_evaluated_on_the_same_photographs(home: Path) -> None:
    before = evaluate(home / "run", device="cpu").to_dict()
    (home / "photos").rename(home / "elsewhere")
    with pytest.raises(DataError, match=r"none of the 30 photographs of the run is in .*--data\.root"):
        evaluate(home / "run", device="cpu")
    assert evaluate(home / "run", root=str(home / "elsewhere"), device="cpu").to_dict() == before


def test_all_of_another_labelled_set_is_evaluated(home: Path) -> None:
    for index in range(60):
        _draw(home / "new" / CLASSES[index % 2] / f"photo {index}.png", 500 + index)
    evaluation = evaluate(home / "run", root=str(home / "new"), device="cpu")
    assert (evaluation.set, evaluation.count) == ("external", 60)
    assert evaluation.to_dict()["absent_classes"] == ["stripe"]
    assert "all of it is evaluated" in evaluation.notes[0]
    assert "classes without a photograph: 1 of 3 (stripe)" in evaluation.notes


def test_what_a_labelled_set_leaves_out_is_counted_and_said(home: Path) -> None:
    for index in range(4):
        _draw(home / "new" / "disc" / f"{index}.png", 900 + index)
    shutil.copy(home / "new" / "disc" / "0.png", home / "new" / "disc" / "again.png")
    (home / "new" / "disc" / "raw.cr2").write_bytes(b"a camera's own")
    evaluation = evaluate(home / "run", root=str(home / "new"), device="cpu")
    assert (evaluation.count, evaluation.to_dict()["left_out"]["copies"]) == (4, 1)
    assert any("copies of another photograph of the set, left out: 1 (" in note for note in evaluation.notes)
    assert any(".cr2" in note for note in evaluation.notes), evaluation.notes


def test_another_set_may_use_the_names_of_the_run_and_lie_below_test(home: Path) -> None:
    for index in range(10):
        for name in CLASSES:
            _draw(home / "new" / "test" / name / f"{index}.png", 700 + index)
    assert evaluate(home / "run", root=str(home / "new"), device="cpu").count == 30


def test_other_photographs_under_the_paths_of_the_run_are_another_set_and_a_note_warns(home: Path) -> None:
    for path in (home / "photos").rglob("*.png"):
        _draw(home / "new" / path.relative_to(home / "photos"), 800 + int(path.stem))
    evaluation = evaluate(home / "run", root=str(home / "new"), device="cpu")
    assert (evaluation.set, evaluation.count) == ("external", 30)
    assert any("path of one that was trained on, with other content: 24 (" in note for note in evaluation.notes)


def test_of_another_set_the_photographs_that_were_trained_on_are_left_out(home: Path) -> None:
    for index, path in enumerate(_listed(home, "train")[:4] + _listed(home, "validation")[:1]):
        (home / "new" / "disc").mkdir(parents=True, exist_ok=True)
        shutil.copy(path, home / "new" / "disc" / f"copy {index}.png")
    _draw(home / "new" / "disc" / "other.png", 4321)
    evaluation = evaluate(home / "run", root=str(home / "new"), device="cpu")
    assert evaluation.count == 1
    assert evaluation.to_dict()["left_out"]["trained_on"] == 5
    (home / "new" / "disc" / "other.png").unlink()
    with pytest.raises(DataError, match="no photograph is left to evaluate"):
        evaluate(home / "run", root=str(home / "new"), device="cpu")


def test_a_table_of_photographs_is_another_set_even_beside_the_dataset_of_the_run(home: Path) -> None:
    learned = _listed(home, "train")[:2]
    rows = [f"{path.relative_to(home)},{path.parent.name}" for path in learned]
    _draw(home / "more" / "1.png", 77)
    (home / "table.csv").write_text("\n".join(["path,label", *rows, "more/1.png,disc"]) + "\n")
    assert _chosen(home, manifest=home / "table.csv") == [home / "more" / "1.png"]


def test_unknown_classes_are_refused_by_name(home: Path) -> None:
    _draw(home / "new" / "disk" / "1.png", 1)
    with pytest.raises(DataError, match=r"that the run does not know: 1 of 1 \('disk', near 'disc'\)"):
        evaluate(home / "run", root=str(home / "new"), device="cpu")


def test_a_damaged_list_is_refused(home: Path) -> None:
    path = home / "run" / "photographs.json"
    path.write_text(path.read_text().replace('"train"', '"test"', 1))
    with pytest.raises(CheckpointError, match=r"photographs\.json"):
        evaluate(home / "run", device="cpu")


def test_the_model_of_another_run_is_refused(home: Path) -> None:
    model = home / "run" / "model" / "model.json"
    model.write_text(model.read_text().replace('"disc"', '"disk"'))
    for digest in model.parent.glob("digests.json"):
        digest.unlink()
    with pytest.raises(CheckpointError, match="other classes"):
        evaluate(home / "run", device="cpu")


def test_evaluate_and_predict_give_the_same_answers(home: Path) -> None:
    evaluation = evaluate(home / "run", device="cpu")
    predictor = Predictor.from_pretrained(home / "run", device="cpu")
    paths = _listed(home, "test")
    guesses = [prediction.guesses[0].label for prediction in predictor.predict_files(paths, top=1)]
    pairs = sorted((path.parent.name, guess) for path, guess in zip(paths, guesses, strict=True))
    assert pairs == sorted(
        (CLASSES[pair.true], CLASSES[pair.predicted]) for pair in evaluation.main.pairs for _ in range(pair.photographs)
    )


def test_the_precision_that_was_asked_for_is_stated(home: Path) -> None:
    evaluation = evaluate(home / "run", device="cpu", precision="bf16")
    assert evaluation.to_dict()["precision"] == "bf16"
    assert evaluation.count == 6


def test_a_photograph_that_cannot_be_read_is_named_or_left_out_and_counted(home: Path) -> None:
    path = _listed(home, "test")[2]
    path.write_bytes(b"no image")
    with pytest.raises(DataError, match=path.name):
        evaluate(home / "run", device="cpu")
    config = home / "run" / "config.yaml"
    config.write_text(config.read_text().replace("on_error: raise", "on_error: skip"))
    evaluation = evaluate(home / "run", device="cpu")
    assert (evaluation.count, evaluation.left_out.unreadable) == (5, (str(path),))
