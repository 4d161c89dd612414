"""Which process this is, by the variables that torchrun sets."""

import os

import pytest

from mpfgvc import __main__
from mpfgvc.processes import Processes

TORCHRUN = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}
SRUN = {"SLURM_STEP_NUM_TASKS": "6", "SLURM_STEP_NUM_NODES": "3", "SLURM_PROCID": "3", "SLURM_LOCALID": "1"}


@pytest.mark.parametrize("slurm", [{}, SRUN], ids=["torchrun", "torchrun inside of srun"])
def test_torchrun_says_which_process_this_is(slurm: dict[str, str]) -> None:
    processes = Processes.here(slurm | TORCHRUN)
    assert processes == Processes(rank=5, world=8, local_rank=1, local=4)
    assert (processes.nodes, processes.is_first) == (2, False)


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_JOB_ID": "1"},
        SRUN | {"SLURM_STEP_NUM_TASKS": "1"},
        {"RANK": "0"},
    ],
    ids=["nothing", "sbatch without srun", "srun of one task", "half of torchrun"],
)
def test_without_a_launch_there_is_one_process(variables: dict[str, str]) -> None:
    processes = Processes.here(variables)
    assert processes == Processes(rank=0, world=1, local_rank=0, local=1)
    assert processes.is_first


@pytest.mark.parametrize(("given", "used"), [("", "passive"), ("active", "active")])
def test_threads_sleep_while_they_wait_unless_a_user_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, given: str, used: str
) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", given)
    if not given:
        monkeypatch.delenv("OMP_WAIT_POLICY")
    monkeypatch.setattr(__main__, "main", lambda: 0)
    with pytest.raises(SystemExit):
        __main__.command()
    assert os.environ["OMP_WAIT_POLICY"] == used
