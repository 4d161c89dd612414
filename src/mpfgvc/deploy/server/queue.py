"""What waits for the model: a bounded number of photographs and bytes, answered in batches.

`Capacity` bounds what is in flight. A request takes a share before its body is read and gives it back when it
is answered. When there is none left it is refused at once, with 503 and the time after which to try again;
nothing waits outside.

`Batcher` makes batches. A batch is made of what is waiting when the model is free, in the order in which it
came. If it is not full, its first item waits a little for others to join. A batch that fails is run again one
by one, so an error reaches only the caller whose item it is about. A caller that went away (its task was
cancelled) leaves the queue.

`Threads` are those that decode and compute. They are daemons: one that hangs cannot hold up the end of the
process.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import Any, Generic, TypeVar

from mpfgvc.deploy.server.documents import RefusedError

Item = TypeVar("Item")
Answer = TypeVar("Answer")
_SMOOTHING = 0.2


class Capacity:
    """How much may be in flight. `seconds_left` says how long so many photographs will take."""

    def __init__(self, *, photographs: int, size: int, seconds_left: Callable[[int], float]) -> None:
        self._most_photographs, self._most_bytes, self._seconds_left = photographs, size, seconds_left
        self.photographs = self.bytes = 0

    @contextmanager
    def share(self) -> Iterator[Callable[[int, int], None]]:
        """One photograph in flight; what it gives takes more photographs and bytes. Raises RefusedError (503)."""
        taken = [0, 0]

        def take(photographs: int, size: int) -> None:
            self.check_room(photographs, size)
            self.photographs += photographs
            self.bytes += size
            taken[:] = taken[0] + photographs, taken[1] + size

        take(1, 0)
        try:
            yield take
        finally:
            self.photographs -= taken[0]
            self.bytes -= taken[1]

    def check_room(self, photographs: int = 1, size: int = 0) -> None:
        """Raise RefusedError (503) if so much more would be too much."""
        if self.photographs + photographs > self._most_photographs:
            line = f"busy: {self.photographs} of {self._most_photographs} photographs are in flight; try again later"
        elif self.bytes + size > self._most_bytes:
            line = "busy: other uploads take all the memory that is set aside for them; try again later"
        else:
            return
        seconds = round(self._seconds_left(self.photographs))
        raise RefusedError(503, line, retry_after=max(1, min(60, seconds)))


class Threads(Executor):
    """So many daemon threads, which run what is submitted in its order."""

    def __init__(self, count: int) -> None:
        self._work = SimpleQueue[tuple[Future[Any], Callable[[], Any]]]()
        for _ in range(count):
            Thread(target=self._run, daemon=True).start()

    def submit(self, work: Callable[..., Any], /, *arguments: Any, **named: Any) -> "Future[Any]":
        """Run it when a thread is free."""
        future = Future[Any]()
        self._work.put((future, partial(work, *arguments, **named)))
        return future

    def _run(self) -> None:
        while True:
            future, work = self._work.get()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(work())
            except BaseException as error:  # the caller gets it
                future.set_exception(error)


@dataclass(eq=False)
class _Waiting(Generic[Item, Answer]):
    item: Item
    answer: "asyncio.Future[Answer]"
    arrived: float


class Batcher(Generic[Item, Answer]):
    """Collects items into batches for `model`, which is called in `worker` and answers them in order.

    `largest` is the most items of a batch, `longest_wait` the seconds that its first one waits for others.
    `on_batch` is told the size and the seconds of each. `run` belongs into the event loop whose tasks submit.
    """

    def __init__(
        self,
        model: Callable[[Sequence[Item]], Sequence[Answer]],
        *,
        worker: Executor,
        largest: int,
        longest_wait: float,
        on_batch: Callable[[int, float], None],
    ) -> None:
        self._model, self._worker, self._on_batch = model, worker, on_batch
        self._largest, self._longest_wait = largest, longest_wait
        self._queue = asyncio.Queue[_Waiting[Item, Answer]]()
        self._busy_since: float | None = None
        self.seconds_per_item = 0.0
        """What an item has taken lately."""

    @property
    def busy_seconds(self) -> float:
        """How long the model has been at its batch, 0 if it has none."""
        return 0.0 if self._busy_since is None else asyncio.get_running_loop().time() - self._busy_since

    async def run(self) -> None:
        """Make batches until it is cancelled."""
        while True:
            batch = [await self._queue.get()]
            with suppress(TimeoutError):
                async with asyncio.timeout_at(batch[0].arrived + self._longest_wait):
                    while len(batch) < self._largest:
                        batch.append(await self._queue.get())
            if batch := [waiting for waiting in batch if not waiting.answer.done()]:  # the others went away
                await self._answer(batch)

    async def submit(self, item: Item) -> Answer:
        """The answer about an item. Raises what the model raises about it."""
        loop = asyncio.get_running_loop()
        waiting = _Waiting[Item, Answer](item, loop.create_future(), loop.time())
        self._queue.put_nowait(waiting)
        return await waiting.answer

    async def _answer(self, batch: list[_Waiting[Item, Answer]]) -> None:
        clock = asyncio.get_running_loop().time
        self._busy_since = started = clock()
        outcomes = await self._outcomes([waiting.item for waiting in batch])
        self._busy_since, seconds = None, clock() - started
        for waiting, outcome in zip(batch, outcomes, strict=True):
            if waiting.answer.done():
                continue
            if isinstance(outcome, Exception):
                waiting.answer.set_exception(outcome)
            else:
                waiting.answer.set_result(outcome)
        weight = _SMOOTHING if self.seconds_per_item else 1.0
        self.seconds_per_item += weight * (seconds / len(batch) - self.seconds_per_item)
        self._on_batch(len(batch), seconds)

    async def _outcomes(self, items: list[Item]) -> Sequence[Answer | Exception]:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._worker, self._model, items)
        except Exception as error:  # of any kind: the callers get it
            if len(items) == 1:
                return [error]
        return [outcome for item in items for outcome in await self._outcomes([item])]
