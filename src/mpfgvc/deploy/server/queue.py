"""What waits for the model: a bounded number of photographs and bytes, answered in batches.

`Places` bounds what is inside. A request takes its places before its body is read and gives them back when it
is answered. When there are none left it is refused at once, with 503 and the time after which to try again;
nothing waits outside.

`Batcher` makes batches. A batch is made of what is waiting when the model is free, in the order in which it
came. If it is not full, its first item waits a little for others to join. The model runs in one worker
thread, so the event loop is free meanwhile. A batch that fails is run again one by one, so an error reaches
only the caller whose item it is about. A caller that went away (its task was cancelled) leaves the queue.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

from mpfgvc.deploy.server.documents import RefusedError

Item = TypeVar("Item")
Answer = TypeVar("Answer")
_SMOOTHING = 0.2


class Places:
    """The places of a server. `seconds_left` says how long so many photographs inside will take."""

    def __init__(self, *, photographs: int, size: int, seconds_left: Callable[[int], float]) -> None:
        self._most_photographs, self._most_bytes, self._seconds_left = photographs, size, seconds_left
        self.photographs = self.bytes = 0
        self.closed = False

    @property
    def is_open(self) -> bool:
        """Whether one more photograph would be admitted."""
        return not self.closed and self.photographs < self._most_photographs

    @contextmanager
    def ticket(self) -> Iterator["Ticket"]:
        """The first place of a request, and all that it takes later. Raises RefusedError (503)."""
        ticket = Ticket(self)
        try:
            ticket.take(photographs=1)
            yield ticket
        finally:
            self.photographs -= ticket.photographs
            self.bytes -= ticket.bytes

    def check_room(self, photographs: int, size: int) -> None:
        """Raise RefusedError (503) if so much more would be too much."""
        if self.closed:
            line = "the server is stopping"
        elif self.photographs + photographs > self._most_photographs:
            line = f"busy: {self.photographs} of {self._most_photographs} places are taken; try again later"
        elif self.bytes + size > self._most_bytes:
            line = "busy: other uploads take all the memory that is set aside for them; try again later"
        else:
            return
        raise RefusedError(503, line, retry_after=self.retry_after())

    def retry_after(self) -> int:
        """Whole seconds after which there should be places again."""
        return max(1, min(60, round(self._seconds_left(self.photographs))))


class Ticket:
    """The places and bytes of one request."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self.photographs = self.bytes = 0

    def take(self, *, photographs: int = 0, size: int = 0) -> None:
        """Take more. Raises RefusedError (503) if too little is left."""
        self._places.check_room(photographs, size)
        self._places.photographs += photographs
        self._places.bytes += size
        self.photographs += photographs
        self.bytes += size


@dataclass(eq=False)
class _Waiting(Generic[Item, Answer]):
    item: Item | None
    """None: its caller went away."""
    answer: "asyncio.Future[Answer]"
    arrived: float


class Batcher(Generic[Item, Answer]):
    """Collects items into batches for `run`, which is called in `worker` and answers them in order.

    `largest` is the most items of a batch, `longest_wait` the seconds that its first one waits for others.
    `on_batch` is told the size and the seconds of each. It must be started and closed in the event loop whose
    tasks submit to it.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Item]], Sequence[Answer]],
        *,
        worker: Executor,
        largest: int,
        longest_wait: float,
        on_batch: Callable[[int, float], None],
    ) -> None:
        self._run, self._worker, self._on_batch = run, worker, on_batch
        self._largest, self._longest_wait = largest, longest_wait
        self._queue: asyncio.Queue[_Waiting[Item, Answer] | None] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self.seconds_per_item = 0.0
        """What an item has taken lately."""

    def start(self) -> None:
        """Begin to make batches."""
        self._task = asyncio.get_running_loop().create_task(self._make_batches())

    async def close(self) -> None:
        """Answer what is waiting, then end."""
        self._closing = True
        self._queue.put_nowait(None)
        if self._task is not None:
            await self._task

    async def submit(self, item: Item) -> Answer:
        """The answer about an item. Raises what the model raises about it, RuntimeError after `close`."""
        if self._closing:
            raise RuntimeError("the batcher is closed")
        loop = asyncio.get_running_loop()
        waiting = _Waiting[Item, Answer](item, loop.create_future(), loop.time())
        self._queue.put_nowait(waiting)
        try:
            return await waiting.answer
        except asyncio.CancelledError:
            waiting.item = None
            raise

    async def _make_batches(self) -> None:
        goes_on = True
        while goes_on:
            batch: list[_Waiting[Item, Answer]] = []
            with suppress(TimeoutError):
                while goes_on and len(batch) < self._largest:
                    until = batch[0].arrived + self._longest_wait if batch else None
                    async with asyncio.timeout_at(until):
                        waiting = await self._queue.get()
                    if waiting is None:
                        goes_on = False
                    elif waiting.item is not None:
                        batch.append(waiting)
            await self._answer([waiting for waiting in batch if waiting.item is not None])

    async def _answer(self, batch: list[_Waiting[Item, Answer]]) -> None:
        if not batch:
            return
        clock = asyncio.get_running_loop().time
        started = clock()
        outcomes = await self._outcomes([waiting.item for waiting in batch if waiting.item is not None])
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
        self._on_batch(len(batch), seconds)

    async def _outcomes(self, items: list[Item]) -> Sequence[Answer | Exception]:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._worker, self._run, items)
        except Exception as error:  # of any kind: the callers get it
            if len(items) == 1:
                return [error]
        return [outcome for item in items for outcome in await self._outcomes([item])]
