"""What a user does wrong ends with one line and exit code 2, and leaves nothing half-done."""

import json
import resource
import shutil
import signal
import sys
from collections.abc import Callable
from contextlib import redirect_stderr
from pathlib import Path

import pytest
import torch
from tests.several_processes import in_processes

from mpfgvc.cli.main import main

Cli = Callable[..., tuple[int, str, str]]


def refused(result: tuple[int, str, str], *parts: str) -> None:
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
        (["--model.kept_tokens", "400"], ["model.kept_tokens", "at most 9", "48 x 48", "400"]),
        (["--model.image_tower.name", "resnet18"], ["model.image_tower.name", "resnet18"]),
        (["--data.root", "/nowhere"], ["data.root", "/nowhere"]),
        (["--data.root", "null"], ["data.root must be a folder", "null, which does not exist"]),
        (["--config", "/nowhere.yaml"], ["/nowhere.yaml"]),
        (["--config", "cubs"], ["unknown recipe cubs", "did you mean cub?"]),
        (["--sed", "3"], ["unknown setting sed", "did you mean seed?"]),
        (["--data.dataset", "cub"], ["images.txt"]),
        (["--out", "/proc/run"], ["/proc/run", "cannot write"]),
    ],
)
def test_bad_settings_end_with_one_line_and_exit_code_2(
    cli: Cli, tiny_words: list[str], tmp_path: Path, words: list[str], parts: list[str]
) -> None:
    out = [] if "--out" in words else ["--out", tmp_path / "run"]
    refused(cli("train", *tiny_words, *out, *words), *parts)
    assert not (tmp_path / "run" / "model").exists()


def test_a_half_deleted_run_is_refused_by_the_name_of_what_is_missing(
    cli: Cli, finished: Path, photos: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(finished, copy)
    (copy / "model" / "model.safetensors").write_bytes(b"cut")
    refused(cli("predict", copy, photos / "test"), "model.safetensors")
    (copy / "model" / "model.safetensors").unlink()
    refused(cli("predict", copy, photos / "test"), "model.safetensors")
    shutil.rmtree(copy / "model")
    refused(cli("evaluate", copy), "--resume")
    (copy / "config.yaml").unlink()
    refused(cli("train", "--resume", copy), "config.yaml")


def test_tensors_of_another_run_and_damaged_ones_are_refused(
    cli: Cli, finished: Path, tiny_words: list[str], photos: Path, tmp_path: Path
) -> None:
    others = shutil.copytree(photos, tmp_path / "photos")
    for split in ("train", "val", "test"):
        (others / split / "disc").rename(others / split / "ring")
    run, other = shutil.copytree(finished, tmp_path / "run"), tmp_path / "other"
    shutil.rmtree(run / "model")  # a finished run is left alone
    assert cli("train", "--out", other, *tiny_words, "--data.root", others)[0] == 0
    for name in ("checkpoint.pt", "stage1.safetensors"):
        file = run / name
        for part in (name, "digests.json"):
            shutil.copy(run / part, tmp_path / part)
        shutil.copy(other / name, file)
        digests = [json.loads((folder / "digests.json").read_text()) for folder in (run, other)]
        (run / "digests.json").write_text(json.dumps(digests[0] | {name: digests[1][name]}))
        refused(cli("train", "--resume", run), name, "other classes, photographs", "another --out")
        for part in (name, "digests.json"):
            shutil.copy(tmp_path / part, run / part)
        file.write_bytes(file.read_bytes()[:-100])
        refused(cli("train", "--resume", run), name, "damaged")
        shutil.copy(finished / name, file)
    assert cli("train", "--resume", run)[0] == 0


def test_a_run_whose_photographs_are_gone_or_renamed_cannot_go_on(
    cli: Cli, finished: Path, photos: Path, tmp_path: Path
) -> None:
    run, moved = shutil.copytree(finished, tmp_path / "run"), shutil.copytree(photos, tmp_path / "photos")
    for split in ("train", "val", "test"):
        (moved / split / "disc").rename(moved / split / "ring")
    place = ["--data.root", moved]
    left_out = json.loads(cli("evaluate", run, *place, "--json")[1])["left_out"]
    assert (left_out["missing"], left_out["added"]) == (5, 16)
    shutil.rmtree(run / "model")  # a finished run is left alone
    refused(cli("train", "--resume", run, *place), "photographs of the run that are missing", "16 of 48")
    shutil.copytree(photos, moved, dirs_exist_ok=True)
    (moved / "train" / "disc" / "3.png").write_bytes((moved / "train" / "cross" / "3.png").read_bytes())
    refused(cli("train", "--resume", run, *place), "1 photographs changed after the run began", "3.png")


def test_a_run_folder_is_never_overwritten_and_a_resumed_run_keeps_its_settings(
    cli: Cli, finished: Path, tiny_words: list[str]
) -> None:
    before = (finished / "config.yaml").read_text()
    refused(cli("train", "--out", finished, *tiny_words), "--resume")
    refused(cli("train", "--resume", finished, "--seed", "3"), "--resume", "--seed")
    refused(cli("train", "--resume", finished, "--config", "cub"), "--resume", "--config")
    assert (finished / "config.yaml").read_text() == before


def _train_on_a_full_disk(words: list[str], said: Path) -> None:
    """The limit on a file's size stands for the full disk: the write fails half-way with an OSError."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
    with said.open("w") as file, redirect_stderr(file):
        code = main(words)
    sys.exit(code)


def test_a_full_disk_ends_with_one_line_and_the_run_can_be_resumed(
    cli: Cli, tiny_words: list[str], tmp_path: Path
) -> None:
    out, said = tmp_path / "run", tmp_path / "said"
    assert in_processes(1, _train_on_a_full_disk, ["train", "--out", str(out), *tiny_words], said) == [2]
    assert "cannot write" in said.read_text()
    assert "Traceback" not in said.read_text()
    assert not list(out.rglob("*.part"))
    assert cli("train", "--resume", out)[0] == 0
    assert (out / "model" / "model.safetensors").is_file()


def test_a_training_that_cannot_begin_leaves_no_run_folder(cli: Cli, tiny_words: list[str], tmp_path: Path) -> None:
    words = ["--out", tmp_path / "run", "--model.image_tower.weights", tmp_path / "none.safetensors"]
    refused(cli("train", *tiny_words, *words), "model.image_tower.weights")
    assert not (tmp_path / "run").exists()


def test_a_device_that_is_not_there_is_refused_in_one_line(cli: Cli, finished: Path, photos: Path) -> None:
    code, _, stderr = cli("predict", finished, photos / "test", "--device", "gpu")
    assert (code, "invalid choice: 'gpu'" in stderr) == (2, True)
    if not torch.cuda.is_available():
        code, _, stderr = cli("predict", finished, photos / "test", "--device", "cuda")
        assert (code, "device must be one that is present" in stderr) == (2, True)
