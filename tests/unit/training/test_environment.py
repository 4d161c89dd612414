"""What this machine runs a training with: the commit that gives its results again, above all."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from mpfgvc.run_folder import Environment
from mpfgvc.training.environment import commit_of, describe_environment


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of a package, in a repository that has committed it and a result."""
    file, result = tmp_path / "src" / "code.py", tmp_path / "measured" / "speed.json"
    for path in (file, result):
        path.parent.mkdir(parents=True)
        path.write_text("1")
    _git(tmp_path, "init", "--quiet")
    _git(tmp_path, "add", ".")
    _git(tmp_path, "-c", "user.name=A", "-c", "user.email=a@b", "commit", "--quiet", "-m", "first")
    return file


def _git(folder: Path, *words: str) -> str:
    return subprocess.run(["git", "-C", folder, *words], capture_output=True, text=True, check=True).stdout


def test_the_description_is_that_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["mpfgvc", "train", "--seed", "3"])
    environment = describe_environment(device="cpu", precision="bf16-mixed", processes=3)
    assert environment.command == ("mpfgvc", "train", "--seed", "3")
    assert (environment.device, environment.precision) == ("cpu", "bf16-mixed")
    assert (environment.processes, environment.threads) == (3, torch.get_num_threads())
    assert environment.packages["torch"] == version("torch")
    assert environment.packages["open_clip_torch"] == version("open_clip_torch")
    assert Environment.model_validate_json(environment.model_dump_json()) == environment


@pytest.mark.parametrize(
    ("changed", "results", "ending"),
    [
        (None, [], ""),
        ("src/code.py", [], "-dirty"),
        ("recipe.yaml", [], "-dirty"),
        ("measured/speed.json", [], "-dirty"),
        ("measured/speed.json", ["measured"], ""),
        ("src/code.py", ["measured"], "-dirty"),
    ],
)
def test_the_commit_is_that_of_the_repository_and_dirty_by_any_change_but_of_results(
    file: Path, changed: str | None, results: list[str], ending: str
) -> None:
    if changed is not None:
        (file.parents[1] / changed).write_text("2")
    assert commit_of(file, results=results) == _git(file.parent, "rev-parse", "HEAD").strip() + ending


def test_a_file_that_another_repository_does_not_know_has_no_commit(file: Path) -> None:
    installed = file.parent / "site-packages" / "mpfgvc" / "environment.py"
    installed.parent.mkdir(parents=True)
    installed.write_text("1")
    assert commit_of(installed) is None


def test_without_git_there_is_no_commit(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert commit_of(file) is None
