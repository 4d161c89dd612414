"""The command line is a contract: commands, JSON documents, one line and exit code 2 for bad input."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from mpfgvc import Config, Predictor, train
from mpfgvc.cli.main import main

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run a command in this process: exit code, standard output, standard error."""

    def run(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(word) for word in words])
        return (code, *capsys.readouterr())

    return run


@pytest.fixture(scope="module")
def run(tiny: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return train(tiny(), out=tmp_path_factory.mktemp("runs") / "run").path


def _settings(config: Config) -> list[str]:
    return [
        *("--data.root", str(config.data.root), "--data.workers", "0", "--device", "cpu"),
        *("--model.image_tower.name", "test_vit", "--model.image_tower.pretrained", "false"),
        *("--model.image_tower.image_size=48", "--model.text_tower.name=mpfgvc-small"),
        *("--model.text_tower.pretrained=null", "--model.kept_tokens=4", "--stage1.epochs=1"),
        *("--stage1.batch_size=8", "--stage2.epochs=1"),
    ]


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["train", "--data.rot", "x"],
        ["train", "--model.kept_tokens", "0", "--data.root", "x"],
        ["train", "--data.dataset", "folder"],
    ],
)
def test_help_and_refused_settings_import_no_torch(words: list[str]) -> None:
    code = (
        "import sys; from mpfgvc.cli.main import main\n"
        f"try: code = main({words!r})\nexcept SystemExit as stop: code = stop.code\n"
        "heavy = {'torch', 'timm', 'open_clip', 'lightning_fabric'} & set(sys.modules)\n"
        "print(code, sorted(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == f"{0 if words == ['--help'] else 2} []"


def test_train_prints_one_json_document_with_run_folder_and_metrics(
    cli: Cli, tiny: Callable[..., Config], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    code, stdout, _ = cli("train", "--json", "--out", out, *_settings(tiny()))
    document = json.loads(stdout)
    assert code == 0
    assert document["run"] == str(out)
    assert document["metrics"]["count"] == 15
    assert {path.name for path in out.iterdir()} >= {
        "config.yaml",
        "environment.json",
        "metrics.csv",
        "model",
    }
    heading, *rows = (out / "metrics.csv").read_text().splitlines()
    assert heading.startswith("stage,epoch,step,loss,accuracy")
    assert [row.split(",")[0] for row in rows] == ["stage1", "stage2"]


def test_evaluate_json_has_the_keys_of_the_contract(cli: Cli, run: Path, tmp_path: Path) -> None:
    code, stdout, _ = cli("evaluate", run, "--json", "--report", tmp_path / "report")
    document = json.loads(stdout)
    assert code == 0
    assert set(document) == {"split", "count", "top1", "top5", "mean_class", "sources"}
    assert set(document["sources"]) == {"vision", "text", "fusion"}
    assert document["count"] == 15
    assert document["top1"] == document["sources"]["fusion"]["top1"]
    assert document == json.loads((run / "evaluation.json").read_text())
    confusion = (tmp_path / "report" / "confusion_fusion.csv").read_text().splitlines()
    counts = [list(map(int, line.split(",")[1:])) for line in confusion[1:]]
    assert [sum(row) for row in counts] == [5, 5, 5]
    assert sum(counts[i][i] for i in range(3)) / 15 == pytest.approx(document["top1"])


def test_evaluate_prints_a_row_for_each_source(cli: Cli, run: Path) -> None:
    code, stdout, _ = cli("evaluate", run)
    assert code == 0
    assert [word for word in stdout.split() if word in ("vision", "text", "fusion")] == [
        "vision",
        "text",
        "fusion",
    ]


def test_predict_takes_a_file_a_folder_and_a_glob(cli: Cli, run: Path, photos: Path) -> None:
    one = photos / "test" / "disc" / "0.png"
    code, stdout, _ = cli("predict", run, one, "--json", "--top", 2)
    assert code == 0
    (entry,) = json.loads(stdout)
    assert entry["path"] == str(one)
    assert [set(guess) for guess in entry["guesses"]] == [{"label", "probability"}] * 2
    assert len(json.loads(cli("predict", run, photos / "test", "--json")[1])) == 15
    assert len(json.loads(cli("predict", run, f"{photos}/test/*/1.png", "--json", "--batch-size", 2)[1])) == 3


def test_predict_prints_csv_and_a_table(cli: Cli, run: Path, photos: Path) -> None:
    csv = cli("predict", run, photos / "test" / "disc", "--csv", "--top", 1)[1].splitlines()
    assert csv[0] == "path,rank,label,probability"
    assert len(csv) == 6
    assert "0.png" in cli("predict", run, photos / "test" / "disc")[1]


def test_predict_names_a_broken_photograph_and_still_prints_the_others(
    cli: Cli, run: Path, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    Image.open(photos / "test" / "disc" / "0.png").convert("RGB").save(tmp_path / "good.jpg")
    code, stdout, stderr = cli("predict", run, tmp_path, "--json")
    assert code == 2
    assert [Path(entry["path"]).name for entry in json.loads(stdout)] == ["good.jpg"]
    assert "broken.jpg" in stderr


def test_data_check_reports_counts(cli: Cli, photos: Path) -> None:
    code, stdout, _ = cli("data", "check", "--data.root", photos, "--json")
    assert code == 0
    assert json.loads(stdout)["counts"] == {"train": 27, "validation": 6, "test": 15}


def _refused(result: tuple[int, str, str], *parts: str) -> None:
    code, stdout, stderr = result
    lines = [line for line in stderr.splitlines() if line.startswith("mpfgvc:")]
    assert code == 2
    assert stdout == ""
    assert "Traceback" not in stderr
    for part in parts:
        assert part in lines[-1]


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--model.kept_token", "4"], ["model.kept_token", "did you mean model.kept_tokens"]),
        (["--stage2.flip", "true"], ["stage2.flip", "replaced by stage2.views"]),
        (["--model.kept_tokens", "many"], ["model.kept_tokens", "whole number", "many"]),
        (["--model.kept_tokens", "400"], ["model.kept_tokens", "at most 9", "48 x 48", "400"]),
        (["--stage1.epochs", "2.5"], ["stage1.epochs", "2.5"]),
        (["--model.image_tower.name", "resnet18"], ["model.image_tower.name", "resnet18"]),
        (["--data.root", "/nowhere"], ["data.root", "/nowhere"]),
        (["--config", "/nowhere.yaml"], ["/nowhere.yaml"]),
        (["--data.dataset", "cub"], ["images.txt"]),
        (["--out", "/proc/run"], ["/proc/run", "cannot write"]),
    ],
)
def test_bad_settings_end_with_one_line_and_exit_code_2(
    cli: Cli, tiny: Callable[..., Config], tmp_path: Path, words: list[str], parts: list[str]
) -> None:
    out = [] if "--out" in words else ["--out", tmp_path / "run"]
    _refused(cli("train", *_settings(tiny()), *out, *words), *parts)
    assert not (tmp_path / "run" / "model").exists()


def test_a_half_deleted_run_is_refused_by_the_name_of_what_is_missing(
    cli: Cli, run: Path, photos: Path, tmp_path: Path
) -> None:
    import shutil

    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    (copy / "model" / "model.safetensors").write_bytes(b"cut")
    _refused(cli("predict", copy, photos / "test"), "model.safetensors")
    (copy / "model" / "model.safetensors").unlink()
    _refused(cli("predict", copy, photos / "test"), "model.safetensors")
    shutil.rmtree(copy / "model")
    _refused(cli("evaluate", copy), "--resume")
    (copy / "config.yaml").unlink()
    _refused(cli("train", "--resume", copy), "config.yaml")


def test_a_broken_checkpoint_and_one_of_other_classes_are_refused(
    cli: Cli, run: Path, photos: Path, tmp_path: Path
) -> None:
    import shutil

    copy, others = tmp_path / "run", tmp_path / "photos"
    shutil.copytree(run, copy)
    shutil.copytree(photos, others)
    for split in ("train", "val", "test"):
        (others / split / "disc").rename(others / split / "ring")
    config = (copy / "config.yaml").read_text()
    (copy / "config.yaml").write_text(config.replace(str(photos), str(others)))
    _refused(cli("train", "--resume", copy), "other classes")
    _refused(cli("evaluate", copy), "other classes")
    (copy / "config.yaml").write_text(config)
    (copy / "checkpoint.pt").write_bytes(b"PK cut short")
    _refused(cli("train", "--resume", copy), "checkpoint.pt")


def test_a_run_folder_is_never_overwritten_and_a_resumed_run_keeps_its_settings(
    cli: Cli, run: Path, tiny: Callable[..., Config]
) -> None:
    before = (run / "config.yaml").read_text()
    _refused(cli("train", "--out", run, *_settings(tiny())), "--resume")
    _refused(cli("train", "--resume", run, "--seed", "3"), "--resume", "--seed")
    assert (run / "config.yaml").read_text() == before


def test_a_full_disk_ends_with_one_line_and_the_run_can_be_resumed(
    cli: Cli, tiny: Callable[..., Config], tmp_path: Path
) -> None:
    """The limit on a file's size stands for the full disk: the write fails half-way with an OSError."""
    out = tmp_path / "run"
    words = ["train", "--out", str(out), *_settings(tiny())]
    code = (
        "import resource, signal, sys; from mpfgvc.cli.main import main\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
        f"sys.exit(main({words!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "cannot write" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(out.rglob("*.part"))
    assert cli("train", "--resume", out)[0] == 0
    assert (out / "model" / "model.safetensors").is_file()


def test_a_training_that_cannot_begin_leaves_no_run_folder(
    cli: Cli, tiny: Callable[..., Config], tmp_path: Path
) -> None:
    words = ["--out", tmp_path / "run", "--model.image_tower.weights", tmp_path / "none.safetensors"]
    _refused(cli("train", *_settings(tiny()), *words), "model.image_tower.weights")
    assert not (tmp_path / "run").exists()


def test_explain_draws_photographs_and_names_the_kept_patches(
    cli: Cli, run: Path, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "why.png"
    files = sorted((photos / "test" / "disc").iterdir())
    code, stdout, _ = cli("explain", run, *files, "--out", out, "--most", 2, "--top", 1, "--json")
    document = json.loads(stdout)
    assert code == 0
    assert document["picture"] == str(out)
    assert [row["path"] for row in document["photographs"]] == [str(file) for file in files[:2]]
    predicted = Predictor.from_pretrained(run)(files[0], top=1)[0]
    assert document["photographs"][0]["guesses"][0]["label"] == predicted.label
    kept = document["photographs"][0]["kept"]
    assert len(kept) == len({tuple(place) for place in kept}) == 4
    assert Image.open(out).width > 700


def test_explain_without_photographs_takes_some_of_the_test(cli: Cli, run: Path, tmp_path: Path) -> None:
    code, stdout, _ = cli("explain", run, "-o", tmp_path / "why.png", "--json")
    names = [row["path"] for row in json.loads(stdout)["photographs"]]
    assert code == 0
    assert len(names) == 4
    assert names[0].startswith("cross: ")
    assert names[-1].startswith("stripe: ")


def test_explain_refuses_what_it_cannot_draw(cli: Cli, run: Path, tmp_path: Path) -> None:
    for words, line in (
        (["explain", run, "-o", tmp_path / "why.jpg"], "--out must end in .png"),
        (["explain", run, "-o", tmp_path / "why.png", "--top", 0], "must be at least 1"),
        (["explain", tmp_path, "-o", tmp_path / "why.png"], "is no run folder"),
        (["explain", run, tmp_path / "none.jpg", "-o", tmp_path / "why.png"], "no photographs in"),
        (["explain", run, "-o", tmp_path / "missing" / "why.png"], "cannot write"),
    ):
        code, _, stderr = cli(*words)
        assert (code, line in stderr) == (2, True), stderr


def test_synthesize_writes_a_dataset_that_check_finds_fine(cli: Cli, tmp_path: Path) -> None:
    size = ["--data.birds.species", 3, "--data.birds.train", 3, "--data.birds.test", 1]
    code, stdout, _ = cli("data", "synthesize", "--out", tmp_path / "birds", *size, "--json")
    assert (code, json.loads(stdout)["images"]) == (0, 12)
    code, stdout, _ = cli(
        "data", "check", "--data.dataset", "cub", "--data.root", tmp_path / "birds", "--json"
    )
    report = json.loads(stdout)
    assert (code, report["fine"], report["classes"]) == (0, True, 3)


def test_a_device_that_is_not_there_is_refused_in_one_line(cli: Cli, run: Path, photos: Path) -> None:
    code, _, stderr = cli("predict", run, photos / "test", "--device", "gpu")
    assert (code, "invalid choice: 'gpu'" in stderr) == (2, True)
    if not torch.cuda.is_available():
        code, _, stderr = cli("predict", run, photos / "test", "--device", "cuda")
        assert (code, "device must be one that is present" in stderr) == (2, True)


def test_synthesize_refuses_settings_that_it_would_ignore(cli: Cli, tmp_path: Path) -> None:
    code, _, stderr = cli("data", "synthesize", "--out", tmp_path / "birds", "--seed", 5)
    assert (code, "takes the settings data.birds.* alone, got --seed" in stderr) == (2, True)


def test_the_help_of_train_explains_every_setting(cli: Cli) -> None:
    code, stdout, _ = cli("train", "--help")
    assert code == 0
    assert "--model.kept_tokens" in stdout
    assert "Patches that reach the last block" in " ".join(stdout.split())
