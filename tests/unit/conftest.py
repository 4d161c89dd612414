"""A process that is killed at any of its calls to the system."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

OPEN, CLOSE = os.open, os.close
CALLS = ("close", "fsync", "mkdir", "open", "rename", "replace", "rmdir", "unlink")


class Killed(BaseException):
    """The process is dead: it does nothing more, not even tidy up."""


@pytest.fixture
def kill_at_every_call(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], Iterator[int]]:
    """Runs an action again and again: first killed at its first call that changes a file system, then at its
    second, until it gets through. Yields the number of calls that were made, after each kill."""

    def kill(action: Callable[[], None]) -> Iterator[int]:
        for allowed in range(1000):
            with monkeypatch.context() as patches:
                opened: set[int] = set()
                _allow(allowed, opened, patches)
                try:
                    action()
                except Killed:
                    pass
                else:
                    return
            for descriptor in opened:  # as the system does, which gives back their locks
                with suppress(OSError):
                    os.close(descriptor)
            yield allowed

    return kill


def _allow(calls: int, opened: set[int], patches: pytest.MonkeyPatch) -> None:
    """Let so many calls through, and no later one."""
    left = [calls]

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            result = function(*arguments, **options)
            if function is OPEN:
                opened.add(result)
            elif function is CLOSE:
                opened.discard(arguments[0])
            return result

        return call

    patches.setattr(sys, "unraisablehook", lambda _: None)  # of objects that would tidy up
    for name in CALLS:
        patches.setattr(os, name, counted(getattr(os, name)))
