"""Several processes, with no further flags, do what one does."""

import csv
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

import pytest
import timm
from safetensors.torch import load_file, save_file
from tests.several_processes import in_processes

from mpfgvc import MPFGVC, Config
from mpfgvc.launcher import Processes
from mpfgvc.recipes_io import dump_config

pytestmark = pytest.mark.timeout(900)  # many starts of Python and torch, on a busy machine, too
Mpfgvc = Callable[..., str]


@pytest.fixture
def mpfgvc(tmp_path: Path) -> Mpfgvc:
    """Run a command in so many processes: what the first of them said, the only one that speaks."""
    said = tmp_path / "said"

    def run(*words: object, processes: int = 1) -> str:
        shutil.rmtree(said, ignore_errors=True)
        said.mkdir()
        assert in_processes(processes, _say, [str(word) for word in words], said) == [0] * processes
        first, *others = (file.read_text() for file in sorted(said.iterdir()))
        assert others == [""] * (processes - 1)
        return first

    return run


def _say(words: list[str], said: Path) -> None:
    """Run a command; its standard output goes into a file."""
    from mpfgvc.cli.main import main

    with (said / str(Processes.here().rank)).open("w") as file, redirect_stdout(file):
        code = main(words)
    sys.exit(code)


def _losses(run: Path) -> list[float]:
    with (run / "metrics.csv").open(newline="") as file:
        return [float(row["loss"]) for row in csv.DictReader(file) if row["epoch"] != "0"]


@pytest.mark.slow("several processes")
@pytest.mark.parametrize("starts", [{"stage2.start": "random"}, {"stage1.start": "features"}])
def test_two_processes_train_to_the_same_losses_and_evaluate_7_photographs_exactly(
    tiny: Callable[..., Config], photos: Path, tmp_path: Path, mpfgvc: Mpfgvc, starts: dict[str, str]
) -> None:
    root = tmp_path / "photos"
    shutil.copytree(photos, root)
    for path in sorted((root / "test").rglob("*.png"))[1:9]:
        path.unlink()  # 7 of 15 are left, some of each class
    config = tmp_path / "config.yaml"
    config.write_text(
        dump_config(tiny({"data.root": str(root), "stage1.accumulate": 2, "stage2.views": 2} | starts))
    )
    runs = [tmp_path / "one", tmp_path / "two"]
    for processes, run in enumerate(runs, start=1):
        document = json.loads(
            mpfgvc("train", "--config", config, "--out", run, "--json", processes=processes)
        )
        assert document["metrics"]["count"] == 7
    assert _losses(runs[1]) == pytest.approx(_losses(runs[0]), abs=1e-4)
    alone, together = (
        json.loads(mpfgvc("evaluate", runs[0], "--json", processes=processes)) for processes in (1, 2)
    )
    assert together == alone


@pytest.mark.slow("several processes")
@pytest.mark.parametrize("processes", [2, 4])
def test_processes_that_each_encode_some_prompts_train_as_one_that_encodes_all(
    tiny: Callable[..., Config], tmp_path: Path, mpfgvc: Mpfgvc, processes: int
) -> None:
    """Three classes leave the last of two processes one, and the last of four none; a chunk holds two."""
    config = tmp_path / "config.yaml"
    settings = {"model.prompt_chunk": 2, "stage1.batch_size": 4}
    config.write_text(dump_config(tiny(settings | {"stage1.lr": 3e-2, "stage1.start": "features"})))
    runs = [tmp_path / "one", tmp_path / "several"]
    for count, run in zip((1, processes), runs, strict=True):
        mpfgvc("train", "--config", config, "--out", run, processes=count)
    assert _losses(runs[1]) == pytest.approx(_losses(runs[0]), abs=1e-4)
    one, several = (load_file(run / "stage1.safetensors")["network.text.context"] for run in runs)
    untrained = MPFGVC.from_config(tiny().model, list("abc"), seed=tiny().seed).prompts.context
    assert (one - untrained).abs().amax(dim=(1, 2)).min() > 1e-3, "every prompt has learned something"
    assert (several - one).abs().mean() < 1e-4


@pytest.mark.slow("several processes")
def test_two_processes_choose_the_same_average_of_towers(
    tiny: Callable[..., Config], tmp_path: Path, mpfgvc: Mpfgvc
) -> None:
    tower = tmp_path / "tower.safetensors"
    save_file(timm.create_model("test_vit", num_classes=0, img_size=48).state_dict(), tower)
    overrides = {"model.image_tower.weights": str(tower), "stage1.pretrained_share": "validation"}
    config = tmp_path / "config.yaml"
    config.write_text(dump_config(tiny(overrides | {"stage1.tower_lr": 3e-3, "stage2.epochs": 1})))
    runs = [tmp_path / "one", tmp_path / "two"]
    for processes, run in enumerate(runs, start=1):
        mpfgvc("train", "--config", config, "--out", run, processes=processes)
    one, two = (load_file(run / "stage1.safetensors") for run in runs)
    for name, weight in one.items():  # the next share moves some tensor by 4e-4
        assert (two[name] - weight).abs().mean() < 1e-4, name


@pytest.mark.slow("several processes")
def test_two_processes_evaluate_two_towers_as_one_does(mpfgvc: Mpfgvc) -> None:
    words = ["--data.birds.species=5", "--data.birds.test=3", "--data.workers=0", "--json"]
    alone, together = (
        json.loads(mpfgvc("evaluate", "--zero-shot", *words, processes=processes)) for processes in (1, 2)
    )
    assert alone["count"] == 15
    assert together == alone


@pytest.mark.slow("several processes")
def test_two_tasks_of_srun_are_one_training(
    tiny: Callable[..., Config], photos: Path, tmp_path: Path
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(dump_config(tiny({"stage1.epochs": 1, "stage2.epochs": 1})))
    words = ["train", "--config", str(config), "--out", str(tmp_path / "run"), "--json"]
    step = {
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_STEP_NUM_NODES": "1",
        "SLURM_NTASKS": "2",
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_STEP_ID": "0",
        "MASTER_ADDR": "127.0.0.1",
    }
    tasks = [
        subprocess.Popen(
            [sys.executable, "-m", "mpfgvc", *words],
            env=os.environ
            | step
            | {"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    (first, first_errors), (second, _) = (task.communicate(timeout=200) for task in tasks)
    assert [task.returncode for task in tasks] == [0, 0], first_errors[-3000:]
    assert json.loads(first)["metrics"]["count"] == 15
    assert second == "", "only the first task speaks"
    assert json.loads((tmp_path / "run" / "environment.json").read_text())["processes"] == 2


@pytest.mark.slow("several processes")
def test_a_refusal_of_the_first_process_ends_both_and_is_said_once(
    tiny: Callable[..., Config], tmp_path: Path
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(dump_config(tiny()))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("seed: 1")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={port}"]
    command = [sys.executable, *torchrun, "-m", "mpfgvc", "train", "--config", config]
    command += ["--out", tmp_path / "run"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    lines = [line for line in done.stderr.splitlines() if line.startswith("mpfgvc:")]
    assert len(lines) == 1
    assert "already holds a run" in lines[0]
