"""What a run was made with: the commit that its results can be had with again."""

import platform
import subprocess
from pathlib import Path

import pytest

from mpfgvc.training.environment import _commit, _processor


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of a package, in a repository that has committed it and a result."""
    file, result = tmp_path / "src" / "code.py", tmp_path / "benchmarks" / "results" / "speed.json"
    for path in (file, result):
        path.parent.mkdir(parents=True)
        path.write_text("1")
    _git(tmp_path, "init", "--quiet")
    _git(tmp_path, "add", ".")
    _git(tmp_path, "-c", "user.name=A", "-c", "user.email=a@b", "commit", "--quiet", "-m", "first")
    return file


def _git(folder: Path, *words: str) -> str:
    return subprocess.run(["git", "-C", folder, *words], capture_output=True, text=True, check=True).stdout


def test_the_commit_is_that_of_the_repository_whatever_results_have_changed(file: Path) -> None:
    root = file.parents[1]
    (root / "benchmarks" / "results" / "speed.json").write_text("2")
    (root / "benchmarks" / "results" / "memory.json").write_text("1")
    assert _commit(file) == _git(root, "rev-parse", "HEAD").strip()


@pytest.mark.parametrize("changed", ["src/code.py", "benchmarks/speed.py", "recipe.yaml"])
def test_any_other_change_makes_it_dirty(file: Path, changed: str) -> None:
    (file.parents[1] / changed).write_text("2")
    assert _commit(file) == _git(file.parent, "rev-parse", "HEAD").strip() + "-dirty"


def test_a_file_that_another_repository_does_not_know_has_no_commit(file: Path) -> None:
    installed = file.parent / "site-packages" / "mpfgvc" / "environment.py"
    installed.parent.mkdir(parents=True)
    installed.write_text("1")
    assert _commit(installed) is None


def test_without_git_there_is_no_commit(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert _commit(file) is None


def test_the_processor_is_named_by_the_system_or_by_its_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_text", lambda _: "processor\t: 0\nmodel name\t: Fast 9\n")
    assert _processor() == "Fast 9"

    def refuse(_: Path) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", refuse)
    assert _processor() == platform.machine()
