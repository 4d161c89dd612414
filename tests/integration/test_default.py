"""`mpfgvc train` with no arguments works without network, data or weights from elsewhere."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mpfgvc.recipes_io import load_config

WITHOUT_NETWORK = """
import socket, sys
def refuse(*arguments, **options):
    raise AssertionError(f"the network was touched: {arguments}")
socket.getaddrinfo = socket.create_connection = refuse
connect = socket.socket.connect
socket.socket.connect = lambda self, address: (
    connect(self, address) if self.family == socket.AF_UNIX else refuse(address)
)
from mpfgvc.cli.main import main
sys.exit(main(sys.argv[1:]))
"""
pytestmark = pytest.mark.slow("three Pythons of their own, with towers of 96 pixels")
SMALL = ["--data.birds.species", "4", "--data.birds.train", "4", "--data.birds.test", "2", "--device", "cpu"]
SHORT = ["--stage1.epochs", "1", "--stage1.batch_size", "8", "--stage2.epochs", "2", "--data.workers", "1"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run of the default recipe with the network cut off."""
    out = tmp_path_factory.mktemp("default") / "run"
    done = _offline("train", "--out", str(out), "--json", *SMALL, *SHORT)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout)["metrics"]["count"] == 8
    return out


def test_the_default_takes_the_synthetic_recipe_with_what_is_set_on_top(run: Path) -> None:
    config = load_config(run / "config.yaml")
    default = load_config("synthetic")
    assert config.model.image_tower == default.model.image_tower
    assert config.model.kept_tokens == default.model.kept_tokens
    assert (config.data.dataset, config.data.birds.species, config.stage1.epochs) == ("synthetic", 4, 1)


def test_evaluate_and_explain_need_no_network_either(run: Path) -> None:
    done = _offline("evaluate", str(run), "--json")
    assert json.loads(done.stdout)["count"] == 8, done.stderr[-2000:]
    done = _offline("explain", str(run), "--out", str(run / "why.png"))
    assert done.returncode == 0, done.stderr[-2000:]
    assert (run / "why.png").stat().st_size > 10_000


def test_the_guard_of_these_tests_works() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            WITHOUT_NETWORK.replace("from mpfgvc.cli.main import main", "socket.create_connection(('localhost', 1))"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "the network was touched" in done.stderr


def _offline(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT_NETWORK, *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
