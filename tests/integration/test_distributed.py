"""Several processes, with no further flags, do what one does."""

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from safetensors.torch import load_file
from tests.several_processes import in_processes

from mpfgvc import MPFGVC, Config
from mpfgvc.recipes_io import dump_config

pytestmark = [pytest.mark.slow("several processes"), pytest.mark.timeout(900)]


def mpfgvc(said: Path, *words: object, processes: int = 1) -> str:
    """What the first of so many processes says; it is the only one that speaks."""
    shutil.rmtree(said, ignore_errors=True)
    said.mkdir()
    command = [str(word) for word in words]
    assert in_processes(processes, _say, command, said) == [0] * processes
    (spoken,) = [text for file in said.iterdir() if (text := file.read_text())]
    return spoken


def _say(words: list[str], said: Path) -> None:
    """Run a command; its standard output goes into a file."""
    from mpfgvc.cli.main import main

    with (said / str(os.getpid())).open("w") as file, redirect_stdout(file):
        code = main(words)
    sys.exit(code)


def settings_file(config: Config, folder: Path) -> Path:
    file = folder / "config.yaml"
    file.write_text(dump_config(config))
    return file


def losses(run: Path) -> list[float]:
    with (run / "metrics.csv").open(newline="") as file:
        return [float(row["loss"]) for row in csv.DictReader(file) if row["epoch"] != "0"]


def test_two_and_four_processes_train_as_one_and_evaluate_7_photographs_exactly(
    tiny: Callable[..., Config], photos: Path, tmp_path: Path
) -> None:
    """Each encodes some prompts: three classes leave the last of four none; a chunk holds two."""
    root, said = tmp_path / "photos", tmp_path / "said"
    shutil.copytree(photos, root)
    for path in sorted((root / "test").rglob("*.png"))[1:9]:
        path.unlink()  # 7 of 15 are left, some of each class
    settings = {"data.root": str(root), "stage1.lr": 3e-2}
    settings |= {"model.prompt_chunk": 2, "stage1.batch_size": 8, "stage1.accumulate": 2}
    config = tiny(settings)
    runs = {count: tmp_path / str(count) for count in (1, 2, 4)}
    words = ["train", "--config", settings_file(config, tmp_path), "--json", "--out"]
    for count, run in runs.items():
        document = json.loads(mpfgvc(said, *words, run, processes=count))
        assert document["metrics"]["count"] == 7
    context = "network.text.context"
    one = load_file(runs[1] / "stage1.safetensors")[context]
    untrained = MPFGVC.from_config(config.model, list("abc"), seed=config.seed).prompts.context
    assert (one - untrained).abs().amax(dim=(1, 2)).min() > 1e-3, "every prompt has learned something"
    for count in (2, 4):
        assert losses(runs[count]) == pytest.approx(losses(runs[1]), abs=1e-4)
        several = load_file(runs[count] / "stage1.safetensors")[context]
        assert (several - one).abs().mean() < 1e-4
    alone, together = (json.loads(mpfgvc(said, "evaluate", runs[1], "--json", processes=count)) for count in (1, 2))
    assert together == alone


def test_a_refusal_of_the_first_process_ends_both_and_is_said_once(tiny: Callable[..., Config], tmp_path: Path) -> None:
    """Under torchrun itself."""
    config = settings_file(tiny(), tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("seed: 1")
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "mpfgvc"]
    command = [sys.executable, *torchrun, "train", "--config", config, "--out", tmp_path / "run"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("mpfgvc:")]
    assert "already holds a run" in line
