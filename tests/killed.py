"""A training in a process of its own that ends, as by kill -9, at one of its file events.

An event is a file that the training opens or renames in its run folder, or a photograph that it opens: some
lie between any two steps. Python reports them to audit hooks, so nothing of the package is patched.
"""

import itertools
import multiprocessing
import os
import sys
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from mpfgvc import Config

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["mpfgvc.training.run"])
KILLED = 9


def run_to_the_end(config: Config | None, out: Path) -> int:
    """Train, or resume where there are no settings; the number of its file events."""
    assert _ended(config, out, None) == 0
    return int(_counter(out).read_text())


def run_until(event: int, config: Config | None, out: Path) -> None:
    """Train or resume until the file event of this number, from 0."""
    assert _ended(config, out, event) == KILLED


def process_of(config: Config | None, out: Path, event: int | None = None) -> ForkServerProcess:
    """The started process of a training."""
    process = PROCESSES.Process(target=train_until, args=(config, out, event))
    process.start()
    return process


def _ended(config: Config | None, out: Path, event: int | None) -> int | None:
    process = process_of(config, out, event)
    process.join(200)
    return process.exitcode


def train_until(
    config: Config | None, out: Path, event: int | None, counted: str = "", given: dict[str, str] | None = None
) -> None:
    """Train or resume in this process, until an event; only those of files of the name `counted` count.

    `given` is what a resume is given.
    """
    from mpfgvc import resume, train

    here, events = os.getpid(), itertools.count()

    def count(name: str, arguments: tuple[object, ...]) -> None:
        if name not in ("open", "os.rename") or os.getpid() != here:
            return
        path = str(arguments[0])
        counts = path.startswith(str(out)) or path.endswith((".png", ".tar"))
        if counts and counted in path and next(events) == event:
            os._exit(KILLED)

    sys.addaudithook(count)
    train(config, out=out) if config is not None else resume(out, **given or {})
    _counter(out).write_text(str(next(events)))


def _counter(out: Path) -> Path:
    return out.with_name(f"{out.name}.events")
