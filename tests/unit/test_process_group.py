"""Processes that are started again find each other, whatever the store knows of those that are gone."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta

import pytest
from torch.distributed import TCPStore

from mpfgvc.distributed import agree_on_name, store_outlives_processes
from mpfgvc.processes import Processes

Start = Callable[..., list["Future[str]"]]


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


@pytest.mark.parametrize("ranks", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_all_processes_of_a_start_get_one_name_that_no_earlier_start_had(
    start: Start, ranks: tuple[int, ...]
) -> None:
    names = [{future.result() for future in start(*ranks, world=3, apart=0.2)} for _ in range(3)]
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


@pytest.mark.parametrize(("before", "after"), [(2, 4), (4, 2)])
def test_another_number_of_processes_may_start_next(start: Start, before: int, after: int) -> None:
    names = []
    for world in (before, after):
        ranks = sorted(range(world), reverse=True)
        names.append({future.result() for future in start(*ranks, world=world, apart=0.1)})
    assert [len(name) for name in names] == [1, 1]


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
