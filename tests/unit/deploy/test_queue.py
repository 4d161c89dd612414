"""Places are bounded and given back; batches: their order, who waits how long, and whose error it is."""

import asyncio
import threading
import time
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pytest

from mpfgvc.deploy.server.documents import RefusedError
from mpfgvc.deploy.server.queue import Batcher, Places

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


def batcher_of(model: Model, **options: Any) -> Batcher[int, int]:
    settings: dict[str, Any] = {"worker": ThreadPoolExecutor(1), "largest": 4, "longest_wait": 0.02}
    settings["on_batch"] = lambda size, seconds: None
    made = Batcher[int, int](model, **{**settings, **options})
    made.start()
    return made


def test_each_caller_gets_its_own_answer_in_batches_of_the_order_of_arrival() -> None:
    model = Model()

    async def main() -> list[int]:
        batcher = batcher_of(model)
        answers = await asyncio.gather(*(batcher.submit(item) for item in range(10)))
        await batcher.close()
        return answers

    assert run(main()) == [-item for item in range(10)]
    assert model.batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_a_full_batch_does_not_wait_and_a_lone_item_waits_no_longer_than_it_must() -> None:
    async def seconds(count: int, longest_wait: float) -> float:
        batcher = batcher_of(Model(), longest_wait=longest_wait)
        started = time.perf_counter()
        await asyncio.gather(*(batcher.submit(item) for item in range(count)))
        taken = time.perf_counter() - started
        await batcher.close()
        return taken

    assert run(seconds(4, 15.0)) < 10
    assert 0.3 <= run(seconds(1, 0.3)) < 10


def test_items_that_arrive_while_others_wait_join_their_batch() -> None:
    model = Model()

    async def main() -> None:
        batcher = batcher_of(model, longest_wait=1.0)
        first = asyncio.create_task(batcher.submit(1))
        await asyncio.sleep(0.05)
        await asyncio.gather(first, batcher.submit(2))
        await batcher.close()

    run(main())
    assert model.batches == [[1, 2]]


def test_what_waited_while_the_model_ran_goes_at_once_when_it_is_free() -> None:
    model = Model()

    async def main() -> float:
        batcher = batcher_of(model, largest=3, longest_wait=0.4)
        model.free.clear()
        held = [asyncio.create_task(batcher.submit(item)) for item in range(3)]
        await asyncio.sleep(0.1)
        late = asyncio.create_task(batcher.submit(3))
        await asyncio.sleep(0.6)
        model.free.set()
        await asyncio.gather(*held)
        freed = time.perf_counter()
        await late
        taken = time.perf_counter() - freed
        await batcher.close()
        return taken

    assert run(main()) < 0.3
    assert model.batches == [[0, 1, 2], [3]]


def test_an_error_reaches_only_the_caller_whose_item_it_is_about() -> None:
    model = Model()

    async def main() -> list[int | BaseException]:
        batcher = batcher_of(model)
        answers = await asyncio.gather(*(batcher.submit(each) for each in (1, 13, 2)), return_exceptions=True)
        answers += [await batcher.submit(5)]
        await batcher.close()
        return answers

    first, failed, second, later = run(main())
    assert (first, second, later) == (-1, -2, -5)
    assert isinstance(failed, ValueError)
    assert model.batches == [[1, 13, 2], [1], [13], [2], [5]]


def test_a_caller_that_goes_away_leaves_the_queue_and_the_others_are_answered() -> None:
    model = Model()

    async def main() -> list[int]:
        batcher = batcher_of(model, largest=2)
        model.free.clear()
        held = [asyncio.create_task(batcher.submit(item)) for item in (1, 2)]
        await asyncio.sleep(0.05)
        gone, stays = (asyncio.create_task(batcher.submit(item)) for item in (3, 4))
        await asyncio.sleep(0.05)
        held[0].cancel()  # it is in the model by now
        gone.cancel()
        await asyncio.sleep(0.05)
        model.free.set()
        answers = [await held[1], await stays]
        await batcher.close()
        assert held[0].cancelled()
        assert gone.cancelled()
        return answers

    assert run(main()) == [-2, -4]
    assert model.batches == [[1, 2], [4]]


def test_closing_answers_what_waits_and_takes_nothing_more() -> None:
    model = Model()

    async def main() -> list[int]:
        batcher = batcher_of(model, longest_wait=15.0)
        waiting = [asyncio.create_task(batcher.submit(item)) for item in range(3)]
        await asyncio.sleep(0.05)
        await batcher.close()
        with pytest.raises(RuntimeError, match="closed"):
            await batcher.submit(9)
        return await asyncio.gather(*waiting)

    assert run(main()) == [0, -1, -2]


def test_every_batch_is_told_with_its_size_and_its_seconds() -> None:
    told: list[tuple[int, float]] = []

    async def main() -> float:
        batcher = batcher_of(Model(), on_batch=lambda *how: told.append(how))
        await asyncio.gather(*(batcher.submit(item) for item in range(6)))
        await batcher.close()
        return batcher.seconds_per_item

    assert run(main()) > 0
    assert [size for size, _ in told] == [4, 2]
    assert all(seconds > 0 for _, seconds in told)


def places_for(seconds_each: float = 0.5) -> Places:
    return Places(photographs=3, size=100, seconds_left=lambda inside: seconds_each * inside)


def test_places_are_taken_given_back_and_refused_beyond_the_last() -> None:
    places = places_for()
    with places.ticket() as first:
        first.take(photographs=1)
        with places.ticket():
            assert (places.photographs, places.is_open) == (3, False)
            with pytest.raises(RefusedError, match="busy: 3 of 3 places are taken") as refused, places.ticket():
                raise AssertionError("no place was left")
            assert (refused.value.status, refused.value.retry_after) == (503, 2)
        assert (places.photographs, places.is_open) == (2, True)
    assert places.photographs == 0


def test_a_request_that_needs_too_many_places_gets_none_of_them() -> None:
    places = places_for()
    with places.ticket(), pytest.raises(RefusedError, match="busy"), places.ticket() as second:
        second.take(photographs=2)
    assert places.photographs == 0


def test_bytes_are_bounded_over_all_requests() -> None:
    places = places_for()
    with places.ticket() as first, places.ticket() as second:
        first.take(size=60)
        with pytest.raises(RefusedError, match="memory"):
            second.take(size=41)
        second.take(size=40)
        assert places.bytes == 100
    assert places.bytes == 0


@pytest.mark.parametrize(("seconds_each", "told"), [(0.0, 1), (4.4, 4), (500.0, 60)])
def test_the_time_to_wait_is_that_of_what_is_inside_within_a_minute(seconds_each: float, told: int) -> None:
    places = places_for(seconds_each)
    with places.ticket():
        assert places.retry_after() == told


def test_a_stopping_server_admits_nobody() -> None:
    places = places_for()
    places.closed = True
    assert not places.is_open
    with pytest.raises(RefusedError, match="stopping"), places.ticket():
        raise AssertionError("it was closed")
