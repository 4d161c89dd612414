"""mpfgvc-runtime: a wheel of the same tree that works where none of the heavy packages is."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

RUNTIME = Path(__file__).resolve().parents[3] / "runtime"
FOREIGN = (
    *("torch", "torchvision", "timm", "open_clip", "lightning_fabric", "jaxtyping", "safetensors"),
    *("tqdm", "rich", "yaml", "tensorboard", "filelock", "huggingface_hub"),
)
"""What a machine with mpfgvc-runtime alone does not have."""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the wheel holds."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder]
    subprocess.run(command, cwd=RUNTIME, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("['describe', 'none.onnx']", "cannot read none.onnx: No such file or directory; check the path"),
        (
            "['predict', 'run', 'photo.png']",
            "run needs torch, which mpfgvc-runtime does without; install mpfgvc for it, or give a .onnx "
            "file of mpfgvc export",
        ),
        ("['predict', 'none.onnx', 'photo.png', '--abstain', '2']", "abstain must be a share between 0 and 1"),
    ],
)
def test_its_command_works_where_only_its_own_packages_are(
    installed: Path, tmp_path: Path, words: str, line: str
) -> None:
    (tmp_path / "photo.png").write_bytes(b"")
    program = f"""
import sys
sys.path[:] = [{str(installed)!r}, *(path for path in sys.path if not path.endswith("src"))]
for name in {FOREIGN!r}:
    sys.modules[name] = None
import mpfgvc
assert mpfgvc.__file__.startswith({str(installed)!r}), mpfgvc.__file__
from mpfgvc import AnswerRules, Guess, Predictor
from mpfgvc.cli.runtime_command import main
sys.exit(main({words}))
"""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.stderr.startswith(f"mpfgvc: {line}")
    assert done.stderr.count("\n") == 1
    assert done.returncode == 2


def test_the_wheel_leaves_weights_and_recipes_to_mpfgvc(installed: Path) -> None:
    names = {path.name for path in (installed / "mpfgvc").iterdir()}
    assert {"inference", "deploy", "cli"} < names
    assert not names & {"weights", "recipes"}
