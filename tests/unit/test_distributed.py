"""Precision follows the device, and processes that are started again find each other."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta

import pytest
import torch
from torch.distributed import TCPStore

from mpfgvc.distributed import agree_on_name, find_device, start_fabric, store_outlives_processes
from mpfgvc.errors import ConfigError
from mpfgvc.processes import Processes
from mpfgvc.terms import PrecisionSetting

Start = Callable[..., list["Future[str]"]]


@pytest.mark.parametrize("has_bf16", [True, False])
@pytest.mark.parametrize("named", ["auto", "bf16", "fp32"])
def test_auto_takes_bf16_where_the_cpu_computes_in_it_and_a_named_precision_is_taken_anyway(
    named: PrecisionSetting, has_bf16: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has_bf16)
    is_bf16 = named == "bf16" or (named == "auto" and has_bf16)
    assert start_fabric("cpu", named).strategy.precision.precision == ("bf16-mixed" if is_bf16 else "32-true")


def test_inputs_keep_their_bits_while_products_are_in_bf16() -> None:
    seen: list[torch.dtype] = []

    class Recorder(torch.nn.Linear):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            outputs = super().forward(inputs)
            seen.extend([inputs.dtype, outputs.dtype])
            return outputs

    start_fabric("cpu", "bf16").setup(Recorder(3, 2))(torch.randn(5, 3))
    assert seen == [torch.float32, torch.bfloat16]


@pytest.mark.parametrize(
    "variables",
    [
        {"SLURM_NTASKS": "4", "SLURM_JOB_ID": "17", "SLURM_PROCID": "0", "SLURM_JOB_NAME": "train.sh"},
        {"SLURM_NTASKS": "1", "SLURM_STEP_NUM_TASKS": "1", "SLURM_JOB_ID": "17", "SLURM_STEP_ID": "0"},
        {"OMPI_COMM_WORLD_SIZE": "4", "JSM_NAMESPACE_SIZE": "4"},
    ],
    ids=["sbatch --ntasks=4 without srun", "srun of one task", "other clusters"],
)
def test_variables_of_a_cluster_that_started_nothing_leave_one_process(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    fabric = start_fabric("cpu", "fp32")
    assert (fabric.world_size, fabric.global_rank) == (1, 0)


def test_several_tasks_of_srun_are_refused_with_the_way_to_start_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "6")
    with pytest.raises(ConfigError, match=r"srun started 6 tasks, .* srun --ntasks-per-node 1 torchrun"):
        start_fabric("cpu", "fp32")


@pytest.mark.parametrize(
    ("there", "device", "found"), [(True, "mps:0", True), (True, "mps:1", False), (False, "mps:0", False)]
)
def test_the_only_device_of_its_kind_may_be_numbered_as_fabric_does(
    there: bool, device: str, found: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: there)
    if found:
        assert find_device(device) == device
    else:
        with pytest.raises(ConfigError, match=f"device must be one that is present .* or auto, got {device}"):
            find_device(device)


@pytest.fixture
def server() -> TCPStore:
    """The store of a torchrun, which outlives its processes."""
    return TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)


@pytest.fixture
def start(server: TCPStore) -> Start:
    """Start processes of these ranks, as threads with a connection each, in the order given."""

    def run(*ranks: int, world: int, seconds: float = 30, apart: float = 0) -> list["Future[str]"]:
        def agree(rank: int) -> str:
            timeout = timedelta(seconds=seconds)
            store = TCPStore("127.0.0.1", server.port, is_master=False, timeout=timeout)
            return agree_on_name(store, Processes(rank=rank, world=world), timeout)

        pool = ThreadPoolExecutor(len(ranks))
        started = []
        for rank in ranks:
            started.append(pool.submit(agree, rank))
            time.sleep(apart)
        pool.shutdown(wait=False)
        return started

    return run


@pytest.mark.parametrize("ranks", [(0, 1, 2), (2, 1, 0)])
def test_all_processes_of_a_start_get_one_name_that_no_earlier_start_had(start: Start, ranks: tuple[int, ...]) -> None:
    names = [{future.result() for future in start(*ranks, world=3, apart=0.2)} for _ in range(2)]
    names.append({future.result() for future in start(3, 2, 1, 0, world=4)})
    assert [len(name) for name in names] == [1, 1, 1]
    assert len(set.union(*names)) == 3


@pytest.mark.parametrize("ended", [(0,), (1,), (0, 1), (1, 2)], ids=str)
@pytest.mark.parametrize("before", [False, True], ids=["first start", "after a whole start"])
def test_a_start_of_which_some_never_came_does_not_disturb_the_next(
    start: Start, ended: tuple[int, ...], before: bool
) -> None:
    if before:
        assert len({future.result() for future in start(0, 1, 2, world=3)}) == 1
    for future in start(*ended, world=3, seconds=0.5):
        assert isinstance(future.exception(), TimeoutError)
    assert len({future.result() for future in start(2, 1, 0, world=3)}) == 1


def test_a_process_that_starts_again_before_all_are_there_is_called_again(start: Start) -> None:
    (alone,) = start(1, world=3, seconds=0.5)
    (first,) = start(0, world=3)
    assert isinstance(alone.exception(), TimeoutError)
    others = start(1, 2, world=3)
    assert {future.result() for future in others} == {first.result()}


def test_only_torchrun_has_a_store_that_outlives_processes() -> None:
    assert store_outlives_processes({"TORCHELASTIC_USE_AGENT_STORE": "True"})
    assert not store_outlives_processes({"TORCHELASTIC_USE_AGENT_STORE": "False"})
    assert not store_outlives_processes({"MASTER_ADDR": "host"})
