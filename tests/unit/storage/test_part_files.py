"""Who may remove an unfinished file."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mpfgvc.storage.part_files import (
    LONGEST_NAME,
    hidden_path,
    host_name,
    is_running,
    part_path,
    remove_leftovers,
)


@pytest.fixture
def ended() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def _leave(folder: Path, name: str, process: int, host: str) -> Path:
    path = folder / f".{name}.{process}-3@{host}.mpfgvc.part"
    path.mkdir()
    (path / "half.txt").write_text("half")
    return path


def test_no_two_calls_get_the_same_name(tmp_path: Path) -> None:
    assert len({part_path(tmp_path / "a.bin") for _ in range(5)}) == 5


def test_long_names_are_cut_and_told_apart(tmp_path: Path) -> None:
    names = [hidden_path(tmp_path / ("é" * 120 + letter), "old").name for letter in "ab"]
    names += [hidden_path(tmp_path / ("é" * 127 + letter), "mpfgvc.old").name for letter in "ab"]
    assert len(set(names)) == 4
    assert all(len(os.fsencode(name)) <= LONGEST_NAME for name in names)


def test_only_this_host_knows_that_a_process_has_ended(tmp_path: Path, ended: int) -> None:
    _leave(tmp_path, "a.bin", ended, host_name())
    running = _leave(tmp_path, "a.bin", os.getppid(), host_name())
    elsewhere = _leave(tmp_path, "a.bin", ended, "elsewhere")
    remove_leftovers(tmp_path)
    assert set(tmp_path.iterdir()) == {running, elsewhere}


def test_the_owner_of_a_name_removes_its_leftovers_of_other_hosts_and_older_versions(
    tmp_path: Path, ended: int
) -> None:
    _leave(tmp_path, "model", ended, "elsewhere")
    _leave(
        tmp_path, "model", os.getpid(), host_name()
    )  # of a container whose processes have the same numbers
    (tmp_path / ".model.123.part").write_text("of an older version")
    other = _leave(tmp_path, "why.png", ended, "elsewhere")
    remove_leftovers(tmp_path, owned={"model"})
    assert set(tmp_path.iterdir()) == {other}


def test_a_process_runs_until_it_has_ended(ended: int) -> None:
    assert is_running(os.getpid())
    assert is_running(1)
    assert not is_running(ended)
    assert not is_running(10**30)


def test_a_folder_that_is_missing_has_no_leftovers(tmp_path: Path) -> None:
    remove_leftovers(tmp_path / "missing")
    assert list(tmp_path.iterdir()) == [], "nothing is made, either"
