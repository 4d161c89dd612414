"""A run folder has one owner at a time, and its settings are those that were written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from mpfgvc.config import Config, ModelConfig
from mpfgvc.errors import CheckpointError, OutputError
from mpfgvc.files import DIGESTS, check_digest, host_name
from mpfgvc.run_folder import Environment, RunFolder

ENVIRONMENT = Environment(
    command=("mpfgvc", "train"),
    commit=None,
    device="cpu",
    precision="32-true",
    processes=1,
    threads=2,
    python="3.11.7",
    platform="Linux",
    processor="Fast 9",
    packages={"torch": "2.11.0"},
)
CONFIG = Config(seed=7, model=ModelConfig(kept_tokens=5))

OWN = """
import sys
from contextlib import nullcontext
from pathlib import Path
from mpfgvc.errors import MpfgvcError
from mpfgvc.run_folder import RunFolder
print("ready", flush=True)
sys.stdin.readline()
try:
    way, path = sys.argv[1:3]
    folder = RunFolder.claim_free(Path(path), "birds") if way == "free" else RunFolder(path)
    with folder.claim():
        print("owns", folder.path, flush=True)
        sys.stdin.readline()
        if way == "leave":
            (folder.path / "config.yaml").write_text("seed: 1")
except MpfgvcError as error:
    print(error, flush=True)
"""
"""Claims a folder when told to, and gives it up when told to."""


class Process:
    """A process that claims a folder; `say` tells it to go on, `hear` is what it prints next."""

    def __init__(self, way: str, path: Path):
        command = [sys.executable, "-c", OWN, way, str(path)]
        self.popen = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.stdin: IO[str] = self.popen.stdin  # type: ignore[assignment]
        self.stdout: IO[str] = self.popen.stdout  # type: ignore[assignment]

    def say(self) -> None:
        self.stdin.write("\n")
        self.stdin.flush()

    def hear(self) -> str:
        return self.stdout.readline().strip()

    def end(self) -> None:
        self.popen.kill()
        self.popen.communicate()


@pytest.fixture
def start() -> Iterator[Callable[[str, Path], Process]]:
    """Starts processes that are ready to claim a folder."""
    processes: list[Process] = []

    def start_one(way: str, path: Path) -> Process:
        processes.append(Process(way, path))
        return processes[-1]

    yield start_one
    for process in processes:
        process.end()


def _all_at_once(processes: list[Process]) -> list[str]:
    for process in processes:
        assert process.hear() == "ready"
    for process in processes:
        process.say()
    return [process.hear() for process in processes]


def test_of_four_processes_that_want_one_folder_one_gets_it_and_the_others_learn_who(
    tmp_path: Path, start: Callable[[str, Path], Process]
) -> None:
    run = tmp_path / "run"
    processes = [start("named", run) for _ in range(4)]
    answers = _all_at_once(processes)
    owners = [process for process, answer in zip(processes, answers, strict=True) if answer == f"owns {run}"]
    refusals = [answer for answer in answers if answer.startswith(f"{run} is in use by ")]
    assert (len(owners), len(refusals)) == (1, 3)
    with pytest.raises(CheckpointError) as caught, RunFolder(run).claim():
        raise AssertionError
    assert f"is in use by process {owners[0].popen.pid} on {host_name()} since 20" in str(caught.value)
    assert "(-c named " in str(caught.value)
    assert str(caught.value).endswith("; wait until it has ended, or choose another --out")


def test_four_processes_that_want_the_next_folder_get_four(
    tmp_path: Path, start: Callable[[str, Path], Process]
) -> None:
    answers = _all_at_once([start("free", tmp_path / "runs") for _ in range(4)])
    assert sorted(answers) == [f"owns {tmp_path / 'runs' / f'birds-{number}'}" for number in (1, 2, 3, 4)]


@pytest.mark.parametrize("end", ["gives it up", "is killed"])
def test_the_next_can_claim_a_folder_however_its_owner_ends(
    tmp_path: Path, start: Callable[[str, Path], Process], end: str
) -> None:
    first, second = start("leave", tmp_path / "run"), start("named", tmp_path / "run")
    assert _all_at_once([first]) == [f"owns {tmp_path / 'run'}"]
    first.say() if end == "gives it up" else first.popen.send_signal(signal.SIGKILL)
    first.popen.wait()
    assert _all_at_once([second]) == [f"owns {tmp_path / 'run'}"]


def test_a_child_of_a_killed_owner_does_not_keep_the_folder(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys, time\nfrom mpfgvc.run_folder import RunFolder\n"
        "with RunFolder(sys.argv[1]).claim():\n"
        "    child = os.fork()\n"
        "    if child == 0:\n        os.close(1)\n        time.sleep(60)\n        os._exit(0)\n"
        "    print(child, flush=True)\n    time.sleep(0.2)\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "run"], stdout=subprocess.PIPE, text=True, check=False
    )
    child = int(done.stdout)
    try:
        os.kill(child, 0)
        with RunFolder(tmp_path / "run").claim():
            pass
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_second_claim_in_one_process_is_refused_and_a_claim_restores_the_model(tmp_path: Path) -> None:
    (tmp_path / ".model.mpfgvc.old").mkdir()
    (tmp_path / ".notes").write_text("of the user")
    with RunFolder(tmp_path).claim():
        in_use = pytest.raises(CheckpointError, match=f"in use by process {os.getpid()} ")
        with in_use, RunFolder(tmp_path).claim():
            raise AssertionError
    assert {path.name for path in tmp_path.iterdir()} == {"model", ".notes"}


def test_a_folder_made_for_nothing_is_removed_and_its_number_is_free_again(tmp_path: Path) -> None:
    first = RunFolder.claim_free(tmp_path, "birds")
    with pytest.raises(KeyError), first.claim():
        raise KeyError
    named = RunFolder(tmp_path / "a" / "run")
    with named.claim():
        pass
    assert not named.path.exists()
    assert RunFolder.claim_free(tmp_path, "birds").path == first.path


@pytest.mark.parametrize("place", ["file/run", "n" * 300])
def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("")
    assert not RunFolder(tmp_path / place).is_run
    with pytest.raises(OutputError, match=r"^cannot write "), RunFolder(tmp_path / place).claim():
        raise AssertionError
    with pytest.raises(OutputError, match=r"^cannot write "):
        RunFolder.claim_free(tmp_path / place, "birds")
    with pytest.raises(OutputError, match=r"^cannot write "):
        RunFolder.claim_free(tmp_path, "n" * 300)


def test_the_files_of_a_run_have_digests_and_are_read_back(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.create(CONFIG, ENVIRONMENT)
    assert check_digest(folder.config)
    assert check_digest(folder.environment)
    assert folder.read_config() == CONFIG
    assert folder.read_config({"seed": 8}).seed == 8
    assert folder.read_environment() == ENVIRONMENT
    assert json.loads(folder.environment.read_text())["packages"] == {"torch": "2.11.0"}


def test_a_kill_at_any_call_while_a_run_is_created_leaves_none_or_a_whole_one(
    tmp_path: Path, kill_at_every_call: Callable[[Callable[[], None]], Iterator[int]]
) -> None:
    folder, runs = RunFolder(tmp_path / "run"), 0
    for _ in kill_at_every_call(lambda: folder.create(CONFIG, ENVIRONMENT)):
        if folder.is_run:
            runs += 1
            assert folder.read_config() == CONFIG
            assert folder.read_environment() == ENVIRONMENT
    assert runs > 0


def test_a_config_cut_anywhere_is_refused_with_and_without_its_digest(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.create(CONFIG, ENVIRONMENT)
    lines = folder.config.read_bytes().splitlines(keepends=True)
    digests = (folder.path / DIGESTS).read_bytes()
    for count in range(len(lines)):
        folder.config.write_bytes(b"".join(lines[:count]))
        (folder.path / DIGESTS).write_bytes(digests)
        with pytest.raises(CheckpointError, match="is damaged: its content does not match"):
            folder.read_config()
        (folder.path / DIGESTS).unlink()
        with pytest.raises(CheckpointError, match=r"config\.yaml has no digest .*, so it may have been cut"):
            folder.read_config()
    folder.config.write_bytes(b"".join(lines))
    assert folder.read_config() == CONFIG


@pytest.mark.parametrize(
    ("content", "named"),
    [
        *((content, "") for content in (b"", b"{", b"\xff\xfe{}", b"[" * 100_000, b'{"threads": 1}')),
        (json.dumps(ENVIRONMENT.model_dump() | {"threads": "2"}).encode(), "threads"),
        (json.dumps(ENVIRONMENT.model_dump() | {"packages": {"torch": 2}}).encode(), "packages.torch"),
    ],
)
def test_a_damaged_environment_is_said_and_stops_nothing(
    tmp_path: Path, content: bytes, named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = RunFolder(tmp_path)
    folder.create(CONFIG, ENVIRONMENT)
    for rule in ("is damaged", named):  # with its digest, and without
        folder.environment.write_bytes(content)
        assert folder.read_environment() is None
        (line,) = capsys.readouterr().err.splitlines()
        assert str(folder.environment) in line
        assert rule in line
        (folder.path / DIGESTS).unlink(missing_ok=True)


def test_a_folder_that_holds_a_run_is_refused_for_a_new_one(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    (folder.path / ".lock").touch()
    (folder.path / "photographs.json").touch()  # what a run that was killed at its start leaves
    folder.refuse_existing()
    with pytest.raises(CheckpointError, match="is not a run folder"):
        RunFolder.open(tmp_path)
    with pytest.raises(CheckpointError, match="a run is named by its folder, got 3"):
        RunFolder.open(3)  # type: ignore[arg-type]
    (folder.path / "robin").mkdir()
    with pytest.raises(CheckpointError, match=r"holds other files \(robin\).*another --out"):
        folder.refuse_existing()
    folder.create(CONFIG, ENVIRONMENT)
    with pytest.raises(CheckpointError, match="already holds a run; continue it with --resume"):
        RunFolder.open(tmp_path).refuse_existing()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, []),
        ({"threads": 1}, ["threads: 2 then, 1 now"]),
        (
            {"processes": 4, "precision": "bf16-mixed"},
            ["precision: 32-true then, bf16-mixed now", "processes: 1 then, 4 now"],
        ),
        ({"commit": "abc"}, ["commit: none then, abc now"]),
        ({"packages": {"torch": "2.12.0"}}, ["torch: 2.11.0 then, 2.12.0 now"]),
        ({"command": ("python",), "platform": "Linux 7", "python": "3.12.1"}, []),
    ],
)
def test_what_may_change_the_bits_is_said(changes: dict[str, Any], said: list[str]) -> None:
    now = Environment(**{**ENVIRONMENT.model_dump(), **changes})
    assert ENVIRONMENT.differences(now) == said
    assert now.precision_setting == ("bf16" if "precision" in changes else "fp32")
