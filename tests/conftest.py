"""Fixtures for all tests: the real data beside the repository, where it is there."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path

import pytest

from mpfgvc.cli.main import main

Cli = Callable[..., tuple[int, str, str]]
SHARED = Path(__file__).resolve().parents[2] / "shared"
# A process that has met one Ray cluster keeps its token, so all clusters of the tests have the same.
os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


def pytest_pycollect_makeitem(collector: object, name: str, obj: object) -> list[object] | None:
    """What a test file imports from the package is no test, even if it is called `eval_transform`."""
    return [] if str(getattr(obj, "__module__", "")).startswith("mpfgvc") else None


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run a command in this process: exit code, standard output, standard error."""

    def run(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(word) for word in words])
        return (code, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder `shared` beside the repository: real photographs and official index files."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the shared data in {SHARED}")
    return SHARED


@pytest.fixture(scope="session")
def metadata(shared: Path) -> Path:
    """The official index files."""
    return _present(shared / "data" / "metadata")


@pytest.fixture(scope="session")
def cub_subset(shared: Path) -> Path:
    """27 classes of CUB-200-2011 with their photographs."""
    return _present(shared / "data" / "CUB_200_2011")


@pytest.fixture(scope="session")
def cub_50(shared: Path) -> Path:
    """The first 50 classes of CUB-200-2011 with their photographs, parts and boxes."""
    return _present(shared / "data" / "CUB_50")


@pytest.fixture(scope="session")
def flowers_102(shared: Path) -> Path:
    """Oxford Flowers-102 with its photographs."""
    return _present(shared / "data" / "flowers-102")


def _present(folder: Path) -> Path:
    if not folder.is_dir():
        pytest.skip(f"needs the shared data in {folder}")
    return folder
