"""For all tests: a command in this process, folders that are made once, and the real data."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from mpfgvc.cli.main import main

Cli = Callable[..., tuple[int, str, str]]
Once = Callable[[str, Callable[[Path], object]], Path]
SHARED = Path(__file__).resolve().parents[2] / "shared"
# A process that has met one Ray cluster keeps its token, so all clusters of the tests have the same.
os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
# One thread a process, here and in those that tests start, so that test processes do not compete for cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A slow test says why it is slow."""
    for item in items:
        if any(not mark.args for mark in item.iter_markers("slow")):
            raise pytest.UsageError(f'{item.nodeid} must say why it is slow: pytest.mark.slow("four trainings")')


def pytest_pycollect_makeitem(collector: object, name: str, obj: object) -> list[object] | None:
    """What a test file imports from the package is no test, even if it is called `eval_transform`."""
    return [] if str(getattr(obj, "__module__", "")).startswith("mpfgvc") else None


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """A folder of this name, which the first test process that asks for it fills; to be read only.

    The test processes of pytest-xdist have base folders below one folder, where these lie.
    """
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def folder(name: str, fill: Callable[[Path], object]) -> Path:
        path, made = shared / name, shared / f"{name}.made"
        with FileLock(shared / f"{name}.lock"):
            if not made.exists():
                shutil.rmtree(path, ignore_errors=True)
                path.mkdir()
                fill(path)
                made.touch()
        return path

    return folder


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
