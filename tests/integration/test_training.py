"""What a run must hold: frozen is frozen, the same seed gives the same bits, options do what they say."""

import csv
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tests.conftest import Cli
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from mpfgvc import (
    MPFGVC,
    CheckpointError,
    Config,
    ConfigError,
    DataError,
    Predictor,
    evaluate,
    load_config,
    resume,
    train,
)
from mpfgvc.model.image_encoder import ImageEncoder
from mpfgvc.recipes_io import dump_config
from mpfgvc.training import loop

Make = Callable[..., Config]
CLASSES = ("cross", "disc", "stripe")
TOWER, FUSION, TEXT_TOWER = "image_encoder.", "fusion.", "text.tower."


def stage1_of(run: Path) -> dict[str, Tensor]:
    """What stage 1 has trained, by its name in the network."""
    weights = load_file(run / "stage1.safetensors")
    return {name.removeprefix("network."): weight for name, weight in weights.items()}


def untrained(config: Config) -> dict[str, Tensor]:
    return MPFGVC.from_config(config.model, CLASSES, seed=config.seed).state_dict()


def model_of(run: Path) -> bytes:
    return (run / "model" / "model.safetensors").read_bytes()


def rows_of(run: Path, stage: str) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return [row for row in csv.DictReader(file) if row["stage"] == stage]


def test_each_stage_changes_what_it_trains_and_no_bit_of_the_rest(tiny: Make, tmp_path: Path) -> None:
    config = tiny({"stage1.weight_decay": 0.1})
    run = train(config, out=tmp_path / "run").path
    start, stage1, model = untrained(config), stage1_of(run), load_file(run / "model" / "model.safetensors")
    frozen = {name for name in start if name.startswith((FUSION, TEXT_TOWER))}
    assert set(stage1) == set(start) - frozen
    assert [name for name, weight in stage1.items() if torch.equal(weight, start[name])] == []
    fusion = {name for name in model if name.startswith(FUSION)}
    assert fusion
    assert [name for name in fusion if torch.equal(model[name], start[name])] == []
    shared = model.keys() & stage1.keys()
    assert any(name.startswith(TOWER) for name in shared)
    assert all(torch.equal(model[name], stage1[name]) for name in shared)


def test_without_epochs_the_starts_are_the_method_on_a_frozen_tower(tiny: Make, tmp_path: Path) -> None:
    """Classifier, prompts and fusion are fitted, the image tower keeps every bit, and the test is made."""
    settings = tiny({"stage1.start": "features", "stage1.epochs": 0, "stage2.start": "stage1", "stage2.epochs": 0})
    run = train(settings, out=tmp_path / "run")
    tower = {name: value for name, value in untrained(settings).items() if name.startswith(TOWER)}
    trained = load_file(run.model_dir / "model.safetensors")
    assert tower
    assert all(torch.equal(trained[name], value) for name, value in tower.items())
    assert [len(rows_of(run.path, stage)) for stage in ("features", "stage1", "stage2")] == [2, 0, 1]
    assert run.metrics is not None
    for source in ("vision", "text", "fusion"):  # three classes of coloured squares
        assert run.metrics.sources[source].top1 > 0.6, source


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not(tiny: Make, plain: Path, tmp_path: Path) -> None:
    """Whatever reads the photographs."""
    again = train(tiny({"data.workers": 2}), out=tmp_path / "again").path
    assert model_of(again) == model_of(plain)
    other = train(tiny({"seed": 4}), out=tmp_path / "other").path
    assert model_of(other) != model_of(plain)


@pytest.mark.slow("three trainings, one of them compiled")
def test_micro_batches_and_a_compiled_step_give_the_weights_of_the_whole_batch(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The graph is captured and differentiated as on a GPU, and then run as it is: no code is generated."""
    compile_with = torch.compile
    as_it_is = {"backend": "aot_eager", "fullgraph": True}
    monkeypatch.setattr(torch, "compile", lambda call, **options: compile_with(call, **options | as_it_is))
    monkeypatch.setenv("CXX", "true")  # any program will do
    # AdamW would give a gradient that differs by rounding alone its full rate.
    monkeypatch.setattr(loop, "AdamW", lambda groups, fused: torch.optim.SGD(groups))
    settings = {"stage1.epochs": 1, "stage2.epochs": 0}
    whole, *others = (
        stage1_of(train(tiny(settings | more), out=tmp_path / f"{number}").path)
        for number, more in enumerate(({}, {"stage1.accumulate": 4}, {"compile": True}))
    )
    for other in others:
        for name, weight in whole.items():
            torch.testing.assert_close(other[name], weight, atol=2e-5, rtol=1e-4, msg=name)


def test_where_nothing_can_be_compiled_the_run_says_so_and_goes_on(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler -O2")
    train(tiny({"compile": True, "stage1.epochs": 1, "stage2.epochs": 0}), out=tmp_path / "run")
    line = "compile: the step runs uncompiled, no compiler no-such-compiler was found; install one"
    assert line in capsys.readouterr().err


def test_early_stopping_ends_a_stage_and_keeps_its_best_weights(tiny: Make, tmp_path: Path) -> None:
    settings = {"stage1.epochs": 9, "stage1.patience": 2, "stage1.lr": 0.1, "stage1.tower_lr": 1e-3}
    run = train(tiny(settings | {"stage1.warmup_epochs": 0.0, "stage2.epochs": 0}), out=tmp_path / "run").path
    rows = rows_of(run, "stage1")
    accuracies = [(float(row["validation_vision"]) + float(row["validation_text"])) / 2 for row in rows]
    best = max(range(len(accuracies)), key=accuracies.__getitem__)
    assert len(accuracies) == best + 3 < 9, "two more epochs without a better one"
    kept = evaluate(run, split="validation").sources
    assert (kept["vision"].top1 + kept["text"].top1) / 2 == pytest.approx(accuracies[best], abs=1e-5)


def test_stage_2_keeps_its_last_epoch_and_with_patience_its_best_epoch(tiny: Make, tmp_path: Path) -> None:
    settings = {"stage1.epochs": 0, "stage2.epochs": 12, "stage2.lr": 0.3, "stage2.start": "random"}
    for patience in ({"stage2.patience": 12}, {}):
        run = train(tiny(settings | patience | {"final_test": False}), out=tmp_path / str(len(patience))).path
        accuracies = [float(row["validation_fusion"]) for row in rows_of(run, "stage2") if row["epoch"] != "0"]
        kept = evaluate(run, split="validation").sources["fusion"].top1
        assert len(accuracies) == 12
        assert kept == pytest.approx(max(accuracies) if patience else accuracies[-1], abs=1e-5)
        assert min(accuracies) < max(accuracies)


def test_a_run_keeps_its_sentences_and_its_model_needs_no_file(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = tmp_path / "words.csv"
    words.write_text(f"class,sentence\nstripe,long lines\nstripe,'{'a line ' * 60}'\ndisc,round\nstar,pointed\n")
    monkeypatch.chdir(tmp_path)
    settings = {"model.descriptions": "words.csv", "stage1.epochs": 1, "stage2.epochs": 0}
    run = train(tiny(settings), out=tmp_path / "run").path
    said = capsys.readouterr().err
    for line in (
        f"classes of {words} that the dataset does not have: 1 of 3 (star)",
        "classes without a description, which have their prompt alone: 1 of 3 (cross)",
        "descriptions longer than the 77 tokens of the text tower, read in parts: 1 of 3",
    ):
        assert said.count(line) == 1
    assert load_config(run / "config.yaml").model.descriptions == str(words)
    words.unlink()
    assert Predictor.from_pretrained(run).classes == CLASSES
    changed = run / "descriptions.csv"
    changed.write_text("class,sentence\ncross,three bars\n")
    shutil.rmtree(run / "model")
    with pytest.raises(CheckpointError, match=r"descriptions\.csv"):
        resume(run)


def test_bad_descriptions_are_refused_before_anything_is_written(tiny: Make, tmp_path: Path) -> None:
    (tmp_path / "words.csv").write_text("class,sentence\ncross, \n")
    for name, error, message in (
        (tmp_path / "gone.csv", ConfigError, "does not exist"),
        (tmp_path / "words.csv", DataError, "line 2 has no sentence about cross"),
        ("bundled", ConfigError, "bundled describes the synthetic birds only"),
    ):
        with pytest.raises(error, match=message):
            train(tiny({"model.descriptions": str(name)}), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("stage", ["stage1", "stage2"])
def test_a_training_that_diverges_ends_in_one_line_and_saves_nothing_of_it(
    tiny: Make, tmp_path: Path, stage: str
) -> None:
    settings = {f"{stage}.lr": 1e38}
    with pytest.raises(ConfigError, match=rf"^stage[^\n]*lr must be lower: {stage} diverged before step \d+"):
        train(tiny(settings), out=tmp_path / "run")
    checkpoint = tmp_path / "run" / "checkpoint.pt"
    assert not checkpoint.exists() or torch.load(checkpoint, weights_only=True)["stage"] != stage
    assert not (tmp_path / "run" / "model").exists()


def test_a_broken_training_photograph_ends_the_run_by_name_or_is_skipped(
    tiny: Make, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = Path(shutil.copytree(photos, tmp_path / "photos"))
    broken = root / "train" / "disc" / "3.png"
    broken.write_bytes(broken.read_bytes()[:200])
    settings = {"data.root": str(root), "stage1.epochs": 1, "stage2.epochs": 0}
    with pytest.raises(DataError, match=r"3\.png"):
        train(tiny(settings), out=tmp_path / "raise")
    run = train(tiny(settings | {"data.on_error": "skip"}), out=tmp_path / "skip")
    assert run.metrics is not None
    assert "3.png" in capsys.readouterr().err


@pytest.mark.parametrize("settings", [None, "folder", {"seed": 1}])
def test_training_takes_only_settings(settings: object) -> None:
    with pytest.raises(ConfigError, match="train takes the settings that load_config gives"):
        train(settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("probe", "vision"),
        pytest.param("coop", "text", marks=pytest.mark.slow("one of five ablations")),
        pytest.param("zero-shot", "text", marks=pytest.mark.slow("one of five ablations")),
        pytest.param("rollout-patches", "fusion", marks=pytest.mark.slow("one of five ablations")),
        pytest.param("random-patches", "fusion", marks=pytest.mark.slow("one of five ablations")),
    ],
)
def test_an_ablation_trains_and_everything_answers_with_its_source(
    tiny: Make, tmp_path: Path, photos: Path, name: str, source: str
) -> None:
    base = tmp_path / "tiny.yaml"
    base.write_text(dump_config(tiny({"stage1.epochs": 1, "stage2.epochs": 1})))
    run = train(load_config(f"ablations/{name}", base=base), out=tmp_path / "run")
    assert run.metrics is not None
    assert run.metrics.main == run.metrics.sources[source]
    with (run.path / "predictions-test.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 15
    picture = photos / rows[7]["path"]
    predictor = Predictor.from_pretrained(run.path)
    assert predictor.source == source
    assert predictor(picture)[0].label == rows[7][source]
    assert predictor.explain(picture).guesses[0].label == rows[7][source]
    assert Predictor.from_pretrained(run.path, source="vision")(picture)[0].label == rows[7]["vision"]


def test_a_share_of_the_pretrained_tower_is_its_weight_in_the_mean_and_the_rest_stays_trained(
    tiny: Make, tmp_path: Path
) -> None:
    file = tmp_path / "tower.safetensors"
    save_file(timm.create_model("test_vit", num_classes=0, img_size=48).state_dict(), file)
    settings = {"model.image_tower.weights": str(file), "stage1.tower_lr": 3e-3, "stage2.epochs": 0}
    plain, averaged = (
        stage1_of(train(tiny(settings | {"stage1.pretrained_share": share}), out=tmp_path / str(share)).path)
        for share in (0.0, 0.3)
    )
    pretrained, start = load_file(file), f"{TOWER}tower.transformer."
    assert not torch.equal(plain[f"{start}cls_token"], averaged[f"{start}cls_token"])
    for name, weight in plain.items():
        share = 0.3 if name.startswith(start) else 0.0
        expected = (1 - share) * weight + share * pretrained[name.removeprefix(start)] if share else weight
        torch.testing.assert_close(averaged[name], expected, atol=1e-6 * (share > 0), rtol=0)


def test_a_training_goes_on_from_the_model_of_a_run_with_its_classifier_where_the_classes_are_the_same(
    tiny: Make, finished: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = finished / "model" / "model.safetensors"
    stored = load_file(model)
    nothing = {"stage1.epochs": 0, "stage2.epochs": 0, "model.image_tower.weights": str(model)}
    for start in ("features", "random"):
        run = train(tiny(nothing | {"stage1.start": start, "final_test": False}), out=tmp_path / start)
        found = load_file(run.model_dir / "model.safetensors")
        same = [name for name in stored if name.startswith((TOWER, "classifier."))]
        assert len(same) > 50
        assert all(torch.equal(found[name], stored[name]) for name in same)
        assert f"the classifier starts as that of {model}" in capsys.readouterr().err
    two = Path(shutil.copytree(photos, tmp_path / "two"))
    for split in ("train", "val", "test"):
        shutil.rmtree(two / split / "disc")
    others = {"data.root": str(two), "model.image_tower.image_size": 64, "final_test": False}
    other = train(tiny(nothing | others), out=tmp_path / "other")
    assert "the classifier starts anew, as the classes are not those of" in capsys.readouterr().err
    found = load_file(other.model_dir / "model.safetensors")
    name = f"{TOWER}tower.transformer.blocks.0.attn.qkv.weight"
    assert torch.equal(found[name], stored[name])
    broken = Path(shutil.copytree(finished / "model", tmp_path / "broken")) / "model.safetensors"
    broken.write_bytes(broken.read_bytes()[:-1] + b"?")
    with pytest.raises(CheckpointError, match=r"model\.safetensors is damaged"):
        train(tiny(nothing | {"model.image_tower.weights": str(broken)}), out=tmp_path / "refused")


def test_a_share_of_nothing_is_refused_at_the_start(tiny: Make, tmp_path: Path) -> None:
    line = "stage1.pretrained_share must be 0 for an image tower without pretrained weights, got 0.2"
    with pytest.raises(ConfigError, match=line):
        train(tiny({"stage1.pretrained_share": 0.2}), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


# What a training says about itself.


def said(capsys: pytest.CaptureFixture[str], sign: str) -> list[str]:
    return [line for line in capsys.readouterr().err.splitlines() if sign in line]


def test_a_healthy_training_ends_with_its_page_and_no_sign(plain: Path) -> None:
    page = (plain / "training.html").read_text()
    assert "None was seen" in page
    assert re.findall(r'text-anchor="middle">([^<]*)<', page) == ["1", "2"] * 4, "epochs are whole"
    assert page.count("<polyline") >= 4  # loss and accuracy of two stages
    assert "http" not in page.replace("http-equiv", "")


def test_a_class_that_looks_like_a_larger_one_is_said_to_be_never_predicted(
    tiny: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also in the page."""
    for name, count, channel in (("disc", 40, 0), ("twin", 4, 0), ("stripe", 40, 1)):
        (tmp_path / "set" / name).mkdir(parents=True)
        for index in range(count):
            pixels = np.random.default_rng((channel, index)).integers(0, 90, (40, 48, 3), dtype=np.uint8)
            pixels[8:32, 8:40, channel] += 160
            Image.fromarray(pixels).save(tmp_path / "set" / name / f"{index}.png")
    settings = {"data.root": str(tmp_path / "set"), "data.validation": 0.0, "data.test": 0.2}
    settings |= {"stage1.epochs": 6, "stage2.epochs": 3, "stage2.start": "random"}
    run = train(tiny(settings), out=tmp_path / "run").path
    err = capsys.readouterr().err
    assert "classes that are never predicted: 1 of 3 (twin)" in err
    line = "the model is not calibrated: that needs 20 validation photographs, and there are 0; calibrate it by others"
    assert f"{line} with mpfgvc calibrate {run} --data.root OTHERS, or set data.validation" in err
    page = (run / "training.html").read_text()
    assert "classes that are never predicted" in page


def test_the_training_ends_with_the_source_that_validation_would_choose(
    tiny: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Here the fusion is left as it was drawn, and the classifier knows the three classes."""
    settings = {"stage1.start": "features", "stage1.epochs": 0, "stage2.start": "random", "final_test": False}
    run = train(tiny(settings | {"stage2.epochs": 1, "stage2.lr": 0.0}), out=tmp_path / "run").path
    (line,) = said(capsys, "on the 6 validation photographs: vision ")
    shares = evaluate(run, split="validation").sources
    assert all(f"{source} {100 * metrics.top1:.1f} %" in line for source, metrics in shares.items())
    advice = "vision is better than fusion, which answers; to change that, set model.prediction to vision"
    assert line.endswith(f"{advice}, or predict with --source vision")
    assert advice in (run / "training.html").read_text()
    settings |= {"stage2.start": "stage1", "stage2.epochs": 0}
    train(tiny(settings), out=tmp_path / "other")
    assert said(capsys, "; fusion answers, and none is better by 3 photographs")


def test_ctrl_c_names_the_folder_to_resume_also_of_a_run_that_named_itself(
    cli: Cli, tiny_words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(torch.optim.AdamW, "step", interrupt)
        code, _, err = cli("train", *tiny_words)
    assert code == 130
    assert err.splitlines()[-1] == "mpfgvc: interrupted; continue with: mpfgvc train --resume runs/folder-1"
    assert cli("train", "--resume", "runs/folder-1")[0] == 0


def test_a_rate_that_is_too_low_is_said_once(tiny: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rates = {"stage1.lr": 1e-9, "stage1.tower_lr": 1e-9, "stage1.warmup_epochs": 0.0, "stage1.epochs": 4}
    train(tiny(rates | {"stage2.epochs": 0}), out=tmp_path / "run")
    (line,) = said(capsys, "does not fall")
    assert "stage1: the loss does not fall" in line
    assert "stage1.lr is 1e-09" in line


def test_the_image_tower_sees_a_photograph_once_however_long_stage_2_trains(tiny: Make, tmp_path: Path) -> None:
    seen: dict[int, int] = {}
    for epochs in (1, 4):

        def count(module: nn.Module, images: tuple[Tensor, ...], _: object, epochs: int = epochs) -> None:
            if isinstance(module, ImageEncoder):
                seen[epochs] = seen.get(epochs, 0) + len(images[0])

        with register_module_forward_hook(count):
            train(tiny({"stage1.epochs": 0, "stage2.epochs": epochs, "final_test": False}), out=tmp_path / f"{epochs}")
    assert seen[1] == seen[4] >= 27
