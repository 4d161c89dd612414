"""What is in flight is bounded; batches: their order, who waits how long, and whose error it is."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import pytest

from mpfgvc.deploy.server.documents import RefusedError
from mpfgvc.deploy.server.queue import Batcher, Capacity, Threads

Result = TypeVar("Result")


class Model:
    """Answers a number by its negative; 13 is an error. Remembers its batches and may be held."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.free = threading.Event()
        self.free.set()

    def __call__(self, items: Sequence[int]) -> list[int]:
        assert self.free.wait(10)
        self.batches.append(list(items))
        if 13 in items:
            raise ValueError("13 cannot be answered")
        return [-item for item in items]


def run(main: Coroutine[Any, Any, Result]) -> Result:
    async def in_time() -> Result:
        async with asyncio.timeout(20):
            return await main

    return asyncio.run(in_time())


@asynccontextmanager
async def batcher_of(model: Model, **options: Any) -> AsyncIterator[Batcher[int, int]]:
    settings: dict[str, Any] = {"worker": Threads(1), "largest": 4, "longest_wait": 0.02}
    settings["on_batch"] = lambda size, seconds: None
    made = Batcher[int, int](model, **{**settings, **options})
    task = asyncio.create_task(made.run())
    yield made
    task.cancel()


def test_each_caller_gets_its_own_answer_in_batches_of_the_order_of_arrival() -> None:
    model, told = Model(), list[tuple[int, float]]()

    async def main() -> list[int]:
        async with batcher_of(model, on_batch=lambda *how: told.append(how)) as batcher:
            answers = await asyncio.gather(*(batcher.submit(item) for item in range(10)))
            assert batcher.seconds_per_item > 0
            return answers

    assert run(main()) == [-item for item in range(10)]
    assert model.batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert [size for size, _ in told] == [4, 4, 2]
    assert all(seconds > 0 for _, seconds in told)


@pytest.mark.parametrize(("count", "longest_wait", "least"), [(4, 15.0, 0.0), (1, 0.3, 0.3)])
def test_a_full_batch_does_not_wait_and_a_lone_item_waits_no_longer_than_it_must(
    count: int, longest_wait: float, least: float
) -> None:
    async def seconds() -> float:
        async with batcher_of(Model(), longest_wait=longest_wait) as batcher:
            started = time.perf_counter()
            await asyncio.gather(*(batcher.submit(item) for item in range(count)))
            return time.perf_counter() - started

    assert least <= run(seconds()) < 10


def test_items_that_arrive_while_others_wait_join_their_batch() -> None:
    model = Model()

    async def main() -> None:
        async with batcher_of(model, longest_wait=1.0) as batcher:
            first = asyncio.create_task(batcher.submit(1))
            await asyncio.sleep(0.05)
            await asyncio.gather(first, batcher.submit(2))

    run(main())
    assert model.batches == [[1, 2]]


def test_what_waited_while_the_model_ran_goes_at_once_when_it_is_free() -> None:
    model = Model()

    async def main() -> float:
        async with batcher_of(model, largest=3, longest_wait=0.4) as batcher:
            model.free.clear()
            held = [asyncio.create_task(batcher.submit(item)) for item in range(3)]
            await asyncio.sleep(0.1)
            late = asyncio.create_task(batcher.submit(3))
            await asyncio.sleep(0.6)
            assert batcher.busy_seconds > 0.5
            model.free.set()
            await asyncio.gather(*held)
            freed = time.perf_counter()
            await late
            return time.perf_counter() - freed

    assert run(main()) < 0.3
    assert model.batches == [[0, 1, 2], [3]]


def test_an_error_reaches_only_the_caller_whose_item_it_is_about() -> None:
    model = Model()

    async def main() -> list[int | BaseException]:
        async with batcher_of(model) as batcher:
            answers = await asyncio.gather(*(batcher.submit(item) for item in (1, 13, 2)), return_exceptions=True)
            return [*answers, await batcher.submit(5)]

    first, failed, second, later = run(main())
    assert (first, second, later) == (-1, -2, -5)
    assert isinstance(failed, ValueError)
    assert model.batches == [[1, 13, 2], [1], [13], [2], [5]]


def test_a_caller_that_goes_away_leaves_the_queue_and_the_others_are_answered() -> None:
    model = Model()

    async def main() -> list[int]:
        async with batcher_of(model, largest=2) as batcher:
            model.free.clear()
            held = [asyncio.create_task(batcher.submit(item)) for item in (1, 2)]
            await asyncio.sleep(0.05)
            gone, stays = (asyncio.create_task(batcher.submit(item)) for item in (3, 4))
            await asyncio.sleep(0.05)
            held[0].cancel()  # it is in the model by now
            gone.cancel()
            await asyncio.sleep(0.05)
            model.free.set()
            return [await held[1], await stays]

    assert run(main()) == [-2, -4]
    assert model.batches == [[1, 2], [4]]


def capacity_of(seconds_each: float = 0.5) -> Capacity:
    return Capacity(photographs=3, size=100, seconds_left=lambda inside: seconds_each * inside)


def test_what_is_in_flight_is_given_back_and_refused_beyond_the_most() -> None:
    capacity = capacity_of()
    with capacity.share() as take:
        take(1, 0)
        with capacity.share():
            assert capacity.photographs == 3
            with pytest.raises(RefusedError, match="busy: 3 of 3 photographs") as refused, capacity.share():
                raise AssertionError("there was no room")
            assert (refused.value.status, refused.value.retry_after) == (503, 2)
        capacity.check_room()
        with pytest.raises(RefusedError, match="busy"), capacity.share() as second:
            second(2, 0)
        assert capacity.photographs == 2
    assert capacity.photographs == 0


def test_bytes_are_bounded_over_all_requests() -> None:
    capacity = capacity_of()
    with capacity.share() as first, capacity.share() as second:
        first(0, 60)
        with pytest.raises(RefusedError, match="memory"):
            second(0, 41)
        second(0, 40)
    assert capacity.bytes == 0


@pytest.mark.parametrize(("seconds_each", "told"), [(0.0, 1), (4.4, 13), (500.0, 60)])
def test_the_time_to_wait_is_that_of_what_is_in_flight_within_a_minute(seconds_each: float, told: int) -> None:
    capacity = capacity_of(seconds_each)
    with capacity.share() as take:
        take(2, 0)
        with pytest.raises(RefusedError) as refused:
            take(1, 0)
    assert refused.value.retry_after == told
