"""Start a function in several processes that find each other as under torchrun, with torch already there."""

import multiprocessing
import multiprocessing.connection
import os
import socket
from collections.abc import Callable
from typing import Any

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["mpfgvc.training.run"])


def in_processes(count: int, function: Callable[..., Any], *arguments: Any) -> list[int]:
    """The exit codes of so many processes that call `function`; killed where one of them ends badly."""
    port = _free_port()
    started = [
        PROCESSES.Process(target=_as_launched, args=(rank, count, port, function, arguments)) for rank in range(count)
    ]
    for process in started:
        process.start()
    waiting = {process.sentinel: process for process in started}
    while waiting:
        for sentinel in multiprocessing.connection.wait(list(waiting), timeout=150) or _timed_out(started):
            process = waiting.pop(sentinel)
            process.join()
            if process.exitcode != 0:
                for other in waiting.values():
                    other.kill()
    return [process.exitcode or 0 for process in started]


def _as_launched(rank: int, count: int, port: int, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_PORT": port}
    if count > 1:
        os.environ |= {"MASTER_ADDR": "127.0.0.1"} | {name: str(value) for name, value in ranks.items()}
    function(*arguments)


def _timed_out(started: list[Any]) -> list[Any]:
    for process in started:
        process.kill()
    raise AssertionError("the processes did not end within 150 seconds")


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
