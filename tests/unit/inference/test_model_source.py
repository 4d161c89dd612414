"""A path is a path, and only hf:// is the hub."""

from pathlib import Path
from typing import Any

import pytest

from mpfgvc.errors import CheckpointError
from mpfgvc.inference.model_source import find_model_folder


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[dict[str, Any]]:
    """What the hub was asked for; nothing goes online."""
    asked: list[dict[str, Any]] = []

    def snapshot_download(repository: str, **options: Any) -> str:
        asked.append({"repository": repository, **options})
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    return asked


def _find(source: Any) -> Path:
    return find_model_folder(source, description="model.json", files=["model.json", "digests.json"])


def _refusal(source: Any) -> str:
    with pytest.raises(CheckpointError) as refusal:
        _find(source)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


def test_a_run_folder_and_its_model_folder_are_the_same_model(tmp_path: Path) -> None:
    model = tmp_path / "run" / "model"
    model.mkdir(parents=True)
    (model / "model.json").touch()
    assert _find(model) == _find(str(model)) == _find(tmp_path / "run") == model


def test_a_typo_is_refused_with_the_near_names_and_does_not_go_to_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, requests: list[dict[str, Any]]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runs/mushrooms").mkdir(parents=True)
    Path("runs/birds").mkdir()
    assert _refusal("runs/mushroms") == "there is no folder runs/mushroms; did you mean runs/mushrooms?"
    assert "hf://user/name for the hub" in _refusal("runs/xyz")
    assert "there is no folder user either; the hub is hf://user/name" in _refusal("user/name")
    assert not requests


@pytest.mark.parametrize("source", [None, 3, b"runs", ["runs"]])
def test_what_is_no_path_is_refused(source: object) -> None:
    assert "a model is named by a folder or hf://user/name, got" in _refusal(source)


def test_a_name_that_no_system_takes_is_refused() -> None:
    assert "cannot read" in _refusal("a" * 5000)


def test_a_folder_without_a_model_says_what_is_missing(tmp_path: Path) -> None:
    assert "no model.json in" in _refusal(tmp_path)
    (tmp_path / "config.yaml").touch()
    assert f"mpfgvc train --resume {tmp_path}" in _refusal(tmp_path)


@pytest.mark.parametrize(
    ("source", "repository", "revision"),
    [
        ("hf://user/name", "user/name", None),
        ("hf://user-1/na.me_2@main", "user-1/na.me_2", "main"),
        ("hf://user/name@refs/pr/3", "user/name", "refs/pr/3"),
    ],
)
def test_a_repository_of_the_hub_is_fetched_with_its_digests(
    requests: list[dict[str, Any]], tmp_path: Path, source: str, repository: str, revision: str | None
) -> None:
    assert _find(source) == tmp_path
    files = ["model.json", "digests.json"]
    assert requests == [{"repository": repository, "revision": revision, "allow_patterns": files}]


@pytest.mark.parametrize(
    "source",
    [
        *("hf://", "hf://name", "hf://a/b/c", "hf://user/", "hf:///x", "hf://u ser/name", "hf://user/na--me"),
        *("hf://../name", "hf://user/..", "hf://user/name@", "hf://user/name@../x", "hf://user/name\n"),
        f"hf://user/{'a' * 97}",
    ],
)
def test_a_bad_name_is_refused_before_the_hub_is_asked(requests: list[dict[str, Any]], source: str) -> None:
    line = _refusal(source)
    assert "must be hf://user/name or hf://user/name@revision" in line
    assert not requests


def test_what_the_hub_answers_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> str:
        raise ValueError("404\nnot found")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    assert "cannot fetch hf://user/name from the hub: 404 not found" in _refusal("hf://user/name")
