"""Trainings on several hosts, and trainings that lose a process or a host and go on by themselves."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from tests.network_hosts import Host, hosts, why_no_hosts

from mpfgvc import Config, evaluate, load_config, train
from mpfgvc.recipes_io import dump_config

pytestmark = [pytest.mark.slow("trainings on several hosts"), pytest.mark.timeout(900)]
TORCHRUN = (sys.executable, "-m", "torch.distributed.run")
TRAIN = ("-m", "mpfgvc", "train", "--config")
needs_hosts = pytest.mark.skipif(why_no_hosts() is not None, reason=str(why_no_hosts()))


@pytest.fixture(scope="module")
def recipe(tiny: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Settings of a training with a checkpoint at every step, and enough steps to be hit in the middle."""
    file = tmp_path_factory.mktemp("elastic") / "config.yaml"
    settings = {"stage1.epochs": 20, "checkpoint_steps": 1, "process_timeout": 60, "stage1.patience": None}
    file.write_text(dump_config(tiny(settings)))
    return file


@pytest.fixture(scope="module")
def unbroken(recipe: Path) -> Path:
    """The run of one process that nothing happened to."""
    return train(load_config(recipe), out=recipe.parent / "unbroken").path


def losses(run: Path) -> list[float]:
    with (run / "metrics.csv").open(newline="") as file:
        return [float(row["loss"]) for row in csv.DictReader(file) if row["epoch"] != "0"]


def answers(run: Path) -> tuple[list[str], list[float]]:
    """The test photographs of a run, and the probability of the truth of each."""
    with (run / "predictions-test.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [row["path"] for row in rows], [float(row["vision_truth"]) for row in rows]


def whole(process: "subprocess.Popen[str]", seconds: float = 300) -> str:
    """What a command printed, which must end well."""
    out, errors = process.communicate(timeout=seconds)
    assert process.returncode == 0, errors[-3000:]
    return out


def until(happened: Callable[[], object], what: str, seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, f"{what} did not happen in {seconds} seconds"
        time.sleep(0.05)


def has_begun(run: Path) -> Callable[[], bool]:
    """Whether stage 1 has ended its fifth epoch."""

    def look() -> bool:
        file = run / "metrics.csv"
        return file.exists() and file.read_text().count("stage1") > 5

    return look


def workers(launcher: "subprocess.Popen[str]") -> list[int]:
    """The living processes that torchrun started; `ip netns exec` becomes torchrun itself."""
    found = []
    for child in Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split():
        with suppress(OSError):  # it has ended
            if b"mpfgvc" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(int(child))
    return found


def test_a_training_whose_process_is_killed_goes_on_by_itself(recipe: Path, unbroken: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = [*TORCHRUN, "--standalone", "--nproc-per-node=2", "--max-restarts=3"]
    with subprocess.Popen(
        [*command, *TRAIN, recipe, "--out", run, "--auto-resume", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as launcher:
        try:
            until(has_begun(run), "stage 1")
            done = (run / "metrics.csv").read_text().splitlines()[:4]
            os.kill(workers(launcher)[-1], signal.SIGKILL)
            assert json.loads(whole(launcher))["metrics"]["count"] == 15
        finally:
            launcher.terminate()  # ends its workers, too
    assert (run / "metrics.csv").read_text().splitlines()[:4] == done, "these epochs were not done again"
    assert losses(run) == pytest.approx(losses(unbroken), abs=1e-4)


@needs_hosts
def test_two_hosts_train_to_the_losses_of_one_process_and_evaluate_exactly(
    recipe: Path, unbroken: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    with hosts(2) as made:
        command = (*TRAIN, recipe, "--out", run, "--json")
        started = [host.start(*TORCHRUN, *_static(made, rank), *command) for rank, host in enumerate(made)]
        printed = [whole(process) for process in started]
    assert losses(run) == pytest.approx(losses(unbroken), abs=1e-4)
    assert json.loads((run / "environment.json").read_text())["processes"] == 2
    assert printed[1:] == [""], "only the first host speaks"
    assert json.loads(printed[0])["metrics"] == evaluate(run).to_dict()
    paths, probabilities = answers(run)
    assert paths == answers(unbroken)[0], "each photograph once, in order"
    assert probabilities == pytest.approx(answers(unbroken)[1], abs=1e-4)


@needs_hosts
def test_a_host_that_is_cut_off_and_brought_back_goes_on_with_the_others(
    recipe: Path, unbroken: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    with hosts(2) as made:
        first, second = (_elastic(host, made[0], recipe, run) for host in made)
        until(has_begun(run), "stage 1")
        made[1].unplug()
        # Nobody tells the hosts: both wait until process_timeout, and then want to begin anew, together.
        until(lambda: not workers(first) + workers(second), "the end of the waiting")
        made[1].plug_in()
        whole(first), whole(second)
    assert losses(run) == pytest.approx(losses(unbroken), abs=1e-4)


def _static(made: list[Host], rank: int) -> Iterator[str]:
    yield from (f"--nnodes={len(made)}", f"--node-rank={rank}", "--nproc-per-node=1")
    yield from (f"--master-addr={made[0].address}", "--master-port=29500")


def _elastic(host: Host, meeting: Host, recipe: Path, run: Path) -> "subprocess.Popen[str]":
    return host.start(
        *TORCHRUN,
        *("--nnodes=2", "--nproc-per-node=1", "--max-restarts=3", f"--local-addr={host.address}"),
        *("--rdzv-backend=c10d", f"--rdzv-endpoint={meeting.address}:29400", "--rdzv-id=birds"),
        # is_host: torchrun would ask the machine, whose name all hosts share
        f"--rdzv-conf=is_host={host is meeting},read_timeout=600",
        *(*TRAIN, recipe, "--out", run, "--auto-resume", "--process_timeout", "30"),
    )
