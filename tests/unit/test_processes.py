"""Which process this is, by the variables that torchrun and srun set."""

import pytest

from mpfgvc.errors import ConfigError
from mpfgvc.processes import Processes, main_address, main_port

TORCHRUN = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}
SRUN = {
    "SLURM_STEP_NUM_TASKS": "6",
    "SLURM_STEP_NUM_NODES": "3",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_JOB_ID": "123456",
    "SLURM_STEP_ID": "2",
    "SLURM_STEP_NODELIST": "gpu[07-09]",
}


def test_torchrun_says_which_process_this_is() -> None:
    processes = Processes.here(TORCHRUN)
    assert processes == Processes(rank=5, world=8, local_rank=1, local=4)
    assert processes.nodes == 2
    assert not processes.is_first


def test_srun_says_which_process_this_is() -> None:
    assert Processes.here(SRUN) == Processes(rank=3, world=6, local_rank=1, local=2)


def test_torchrun_inside_of_slurm_goes_before_srun() -> None:
    assert Processes.here(SRUN | TORCHRUN).world == 8


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


def test_uneven_nodes_are_refused() -> None:
    with pytest.raises(ConfigError, match="same number of tasks on each of 3 nodes, got 7 tasks"):
        Processes.here(SRUN | {"SLURM_STEP_NUM_TASKS": "7"})


@pytest.mark.parametrize(
    ("nodes", "first"), [("gpu[07-09]", "gpu07"), ("gpu[7,9]", "gpu7"), ("alpha,beta", "alpha"), ("alpha", "alpha")]
)
def test_processes_of_srun_meet_at_its_first_node(nodes: str, first: str) -> None:
    assert main_address({"SLURM_STEP_NODELIST": nodes}) == first


def test_named_address_and_port_are_taken() -> None:
    named = SRUN | {"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500"}
    assert (main_address(named), main_port(named)) == ("10.0.0.1", 29500)


def test_steps_of_a_job_meet_at_different_ports() -> None:
    ports = {main_port(SRUN | {"SLURM_STEP_ID": str(step)}) for step in range(3)}
    assert len(ports) == 3
    assert all(15_000 <= port < 25_000 for port in ports)
