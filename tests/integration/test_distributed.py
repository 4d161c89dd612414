"""Two processes under torchrun, with no further flags, do what one does."""

import csv
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mpfgvc import Config
from mpfgvc.config_io import dump_config


def _mpfgvc(*words: object, processes: int = 1) -> str:
    launcher: list[str] = []
    if processes > 1:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        launcher = ["-m", "torch.distributed.run", f"--nproc-per-node={processes}", f"--master-port={port}"]
    command = [sys.executable, *launcher, "-m", "mpfgvc", *map(str, words)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def _losses(run: Path) -> list[float]:
    with (run / "metrics.csv").open(newline="") as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


@pytest.mark.slow
def test_two_processes_train_to_the_same_losses_and_evaluate_7_photographs_exactly(
    tiny: Callable[..., Config], photos: Path, tmp_path: Path
) -> None:
    root = tmp_path / "photos"
    shutil.copytree(photos, root)
    test = sorted((root / "test").rglob("*.png"))
    for path in test[7:]:
        if path.name != "0.png":
            path.unlink()
    remaining = sorted((root / "test").rglob("*.png"))
    assert len(remaining) == 7 or len(remaining) == 8
    if len(remaining) == 8:
        remaining[1].unlink()
    config = tmp_path / "config.yaml"
    config.write_text(dump_config(tiny({"data.root": str(root), "stage1.accumulate": 2, "stage2.views": 2})))
    runs = [tmp_path / "one", tmp_path / "two"]
    for processes, run in enumerate(runs, start=1):
        document = json.loads(
            _mpfgvc("train", "--config", config, "--out", run, "--json", processes=processes)
        )
        assert document["metrics"]["count"] == 7
    assert _losses(runs[1]) == pytest.approx(_losses(runs[0]), abs=1e-4)
    alone, together = (
        json.loads(_mpfgvc("evaluate", runs[0], "--json", processes=processes)) for processes in (1, 2)
    )
    assert together == alone
