"""The recipe of the paper from its first download to a prediction, with random weights under the true names.

Real sizes, the real download code of timm and open_clip, a hub on this machine. Only the photographs are few,
the steps one a stage, and the images 224 px.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.loopback_hub import environment, serving
from tests.true_weights import IMAGE, TEXT, write_true_weights

BIRDS = [f"--data.birds.{name}" for name in ("species=2", "train=2", "test=2", "image_size=96")]
FEW_STEPS = [
    *("--stage1.epochs=1", "--stage1.batch_size=4", "--stage1.warmup_epochs=0", "--stage1.start=random"),
    *("--stage2.epochs=1", "--stage2.batch_size=4", "--stage2.warmup_epochs=0", "--data.validation=0"),
    *("--model.image_tower.image_size=224", "--data.workers=0", "--device=cpu"),
]


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[Path]:
    """A folder for everything; what is in it is large, so it does not stay."""
    yield tmp_path
    shutil.rmtree(tmp_path)


@pytest.mark.slow("towers of the paper's size")
@pytest.mark.timeout(1800)
def test_recipe_cub_downloads_trains_evaluates_and_predicts(workshop: Path) -> None:
    write_true_weights(workshop / "hub")
    with serving(workshop / "hub") as address:
        _mpfgvc(workshop, address, "data", "synthesize", "--out", "birds", *BIRDS)
        words = ["--config", "cub", "--data.root", "birds", "--out", "run", *FEW_STEPS]
        trained = json.loads(_mpfgvc(workshop, address, "train", *words, "--json"))
    assert trained["metrics"]["count"] == 4
    fetched = {file.name for file in (workshop / "cache").rglob("snapshots/*/*.safetensors")}
    assert fetched == {IMAGE[1], TEXT[1]}
    description = json.loads((workshop / "run" / "model" / "model.json").read_text())
    assert description["model"]["image_tower"]["name"] == "vit_base_patch16_224.augreg_in21k"
    assert (description["embed"], description["model"]["kept_tokens"]) == (512, 96)
    shutil.rmtree(workshop / "cache")
    nobody = "http://127.0.0.1:9"
    evaluated = json.loads(_mpfgvc(workshop, nobody, "evaluate", "run", "--device=cpu", "--json"))
    assert evaluated["top1"] == trained["metrics"]["top1"]
    guesses = json.loads(_mpfgvc(workshop, nobody, "predict", "run", "birds/images", "--device=cpu", "--json"))
    assert len(guesses) == 8


def _mpfgvc(workshop: Path, address: str, *words: str) -> str:
    """Run a command in the workshop with a Python of its own: its standard output."""
    variables = os.environ | environment(address, workshop / "cache") | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "mpfgvc", *words],
        cwd=workshop,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout
