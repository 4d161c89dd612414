"""Dynamic batching: single photographs come in, batches go to the model, each caller gets its own answer.

A batch is made of what is waiting when the model is free, in the order in which it came. If it is not full,
its first item waits a little for others to join. The model runs in one worker thread, so the event loop is
free meanwhile and fills the next batch.

- A batch that fails is run again one by one, so an error reaches only the caller whose item it is about.
- A caller that went away (its task was cancelled) leaves the queue; what is in the model is finished.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")
Run = Callable[[Sequence[Item]], Sequence[Answer]]
_SMOOTHING = 0.2


@dataclass(frozen=True)
class BatchDone:
    """How a batch went, for who counts."""

    size: int
    seconds: float


@dataclass(frozen=True, eq=False)
class _Waiting(Generic[Item, Answer]):
    item: Item
    answer: "asyncio.Future[Answer]"
    arrived: float


class Batcher(Generic[Item, Answer]):
    """Collects items into batches for `run`, which is called in `worker` and answers them in order.

    `largest` is the most items of a batch, `longest_wait` the seconds that its first one waits for others.
    It must be started and closed in the event loop whose tasks submit to it.
    """

    def __init__(
        self,
        run: Run[Item, Answer],
        *,
        worker: Executor,
        largest: int,
        longest_wait: float,
        on_batch: Callable[[BatchDone], None] = lambda _: None,
    ) -> None:
        self._run, self._worker = run, worker
        self._largest, self._longest_wait = largest, longest_wait
        self._on_batch = on_batch
        self._queue: deque[_Waiting[Item, Answer]] = deque()
        self._arrived = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None
        self.seconds_per_item = 0.0
        """What an item has taken lately."""

    @property
    def waiting(self) -> int:
        """Items that no batch has taken yet."""
        return len(self._queue)

    def start(self) -> None:
        """Begin to make batches."""
        self._task = asyncio.get_running_loop().create_task(self._make_batches())

    async def close(self) -> None:
        """Answer what is waiting, then end."""
        self._closing = True
        self._arrived.set()
        if self._task is not None:
            await self._task

    async def submit(self, item: Item) -> Answer:
        """The answer about an item. Raises what the model raises about it, RuntimeError after `close`."""
        if self._closing:
            raise RuntimeError("the batcher is closed")
        loop = asyncio.get_running_loop()
        waiting = _Waiting[Item, Answer](item, loop.create_future(), loop.time())
        self._queue.append(waiting)
        self._arrived.set()
        try:
            return await waiting.answer
        except asyncio.CancelledError:
            with suppress(ValueError):  # a batch has taken it
                self._queue.remove(waiting)
            raise

    async def _make_batches(self) -> None:
        while True:
            await self._arrived.wait()
            if not self._closing:
                await self._wait_for_others()
            batch = [self._queue.popleft() for _ in range(min(self._largest, len(self._queue)))]
            if not self._queue and not self._closing:
                self._arrived.clear()
            if batch:
                await self._answer(batch)
            elif self._closing:
                return

    async def _wait_for_others(self) -> None:
        """Until the batch is full, or its first item has waited long enough, perhaps while the model ran."""
        clock = asyncio.get_running_loop().time
        while 0 < len(self._queue) < self._largest and not self._closing:
            left = self._queue[0].arrived + self._longest_wait - clock()
            if left <= 0:
                return
            self._arrived.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._arrived.wait(), left)

    async def _answer(self, batch: list[_Waiting[Item, Answer]]) -> None:
        clock = asyncio.get_running_loop().time
        started = clock()
        outcomes = await self._outcomes(batch)
        for waiting, outcome in zip(batch, outcomes, strict=True):
            if waiting.answer.done():  # its caller went away
                continue
            if isinstance(outcome, Exception):
                waiting.answer.set_exception(outcome)
            else:
                waiting.answer.set_result(outcome)
        seconds = clock() - started
        weight = _SMOOTHING if self.seconds_per_item else 1.0
        self.seconds_per_item += weight * (seconds / len(batch) - self.seconds_per_item)
        self._on_batch(BatchDone(len(batch), seconds))

    async def _outcomes(self, batch: list[_Waiting[Item, Answer]]) -> Sequence[Answer | Exception]:
        loop = asyncio.get_running_loop()
        items = [waiting.item for waiting in batch]
        try:
            return await loop.run_in_executor(self._worker, self._run, items)
        except Exception as error:  # of any kind: the callers get it
            if len(batch) == 1:
                return [error]
        return [outcome for each in batch for outcome in await self._outcomes([each])]
